"""`/v1/chat/completions`."""

from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.types import ASGIApp

from app.chat.model import ChatOutcome
from app.chat.reference import EXAMPLES, ChatCompletionRequest
from app.chat.reference_answer import ChatCompletion, ChatCompletionChunk
from app.chat.schemas import read_chat_request
from app.chat.service import ChatService
from app.http.answer import EventStream, JsonAnswer
from app.http.deadline import deadline_of
from app.http.disconnect import while_connected
from app.http.openapi.describe import MODEL_CALL, Body, described
from app.http.openapi.headers import CACHED, GROUNDED, TRAIL
from app.http.trail import trail_headers
from plugins.contract.principal import Principal, TenantId


@post(
    "/v1/chat/completions",
    operation_id="createChatCompletion",
    status_code=200,
    tags=["chat"],
    opt=described(
        needs="models:use",
        body=Body(kind=ChatCompletionRequest, examples=EXAMPLES),
        answer=ChatCompletion,
        streams=ChatCompletionChunk,
        codes=(*MODEL_CALL, "not_found", "local_model_unavailable", "embedder_unavailable", "embedder_busy"),
        headers=(*TRAIL, *CACHED, *GROUNDED),
    ),
)
async def create_chat_completion(
    request: Request[Any, Any, State], principal: Principal, tenant_id: TenantId, chat: ChatService
) -> ASGIApp:
    """Answer a conversation: whole, or streamed with `stream: true`; over documents with `vector_store_ids`."""
    asked = read_chat_request(await request.body(), deadline_of(request.scope))
    if asked.stream:
        chunks, outcome = await while_connected(request, chat.stream(principal, tenant_id, asked))
        return EventStream(chunks, headers_of(outcome))
    body, outcome = await while_connected(request, chat.complete(principal, tenant_id, asked))
    return JsonAnswer(body, headers_of(outcome))


def headers_of(outcome: ChatOutcome) -> dict[str, str]:
    trail = trail_headers(
        target=outcome.target,
        attempts=outcome.attempts,
        cost_nusd=outcome.cost_nusd,
        cache=outcome.cache,
        saved_nusd=outcome.saved_nusd,
    )
    if outcome.grounding is not None:
        trail["x-wattos-retrieval"] = outcome.grounding.retrieved.mode
    if outcome.degraded is not None:
        trail["x-wattos-degraded"] = outcome.degraded
    return trail
