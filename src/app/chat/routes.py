"""`/v1/chat/completions`."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.types import ASGIApp

from app.chat.model import ChatOutcome
from app.chat.reference import EXAMPLES, ChatCompletionRequest
from app.chat.reference_answer import ChatCompletion, ChatCompletionChunk
from app.chat.schemas import read_chat_request
from app.chat.service import ChatService
from app.http import sse
from app.http.answer import EventStream, JsonAnswer
from app.http.deadline import deadline_of
from app.http.disconnect import while_connected
from app.http.openapi.describe import MODEL_CALL, Body, described
from app.http.openapi.headers import TRAIL
from app.http.trail import trail_headers
from app.llm.model import Events
from plugins.contract.errors import WattosError
from plugins.contract.principal import Principal, TenantId

logger = logging.getLogger("chat")


@post(
    "/v1/chat/completions",
    operation_id="createChatCompletion",
    status_code=200,
    tags=["chat"],
    opt=described(
        body=Body(kind=ChatCompletionRequest, examples=EXAMPLES),
        answer=ChatCompletion,
        streams=ChatCompletionChunk,
        codes=(*MODEL_CALL, "not_found", "local_model_unavailable", "embedder_unavailable", "embedder_busy"),
        headers=(*TRAIL, "x-wattos-cache"),
    ),
)
async def create_chat_completion(
    request: Request[Any, Any, State], principal: Principal, tenant_id: TenantId, chat: ChatService
) -> ASGIApp:
    """Answer a conversation: whole, or streamed with `stream: true`; over documents with `vector_store_ids`."""
    asked = read_chat_request(await request.body(), deadline_of(request.scope["headers"]))
    if asked.stream:
        chunks, outcome = await while_connected(request, chat.stream(principal, tenant_id, asked))
        return EventStream(events(chunks), headers_of(outcome))
    body, outcome = await while_connected(request, chat.complete(principal, tenant_id, asked))
    return JsonAnswer(body, headers_of(outcome))


def headers_of(outcome: ChatOutcome) -> dict[str, str]:
    trail = trail_headers(target=outcome.target, attempts=outcome.attempts, cost_nusd=outcome.cost_nusd)
    return {**trail, "x-wattos-cache": outcome.cache}


async def events(chunks: AsyncIterator[Events]) -> AsyncIterator[bytes]:
    """Whole SSE events. A failure after the first one ends the stream with exactly one error event and no `[DONE]`."""
    try:
        async with aclosing(chunks):  # type: ignore[type-var]  # an async generator, typed as what it is used as
            async for chunk in chunks:
                yield chunk.wire
    except WattosError as exc:
        yield sse.error_event(exc)
    except Exception as exc:  # the status is sent: an event is all that is left to tell the client
        logger.exception("unhandled %s in a stream", type(exc).__name__)
        yield sse.error_event(WattosError("internal error"))
    else:
        yield sse.DONE
