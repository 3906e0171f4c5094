"""`/v1/messages`."""

from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.types import ASGIApp

from app.http.answer import AnthropicEventStream, JsonAnswer
from app.http.context import REQUEST_ID
from app.http.deadline import deadline_of
from app.http.disconnect import while_connected
from app.http.openapi.describe import MODEL_CALL, Body, described
from app.http.openapi.headers import CACHED, TRAIL
from app.messages.reference import (
    COUNT_EXAMPLES,
    EXAMPLES,
    MessageCount,
    MessageCreate,
    MessageEvent,
    MessageOut,
    TokenCount,
)
from app.messages.schemas import read_messages_request
from app.messages.service import MessagesService
from app.model_calls import trail_of
from plugins.contract.principal import Principal


@post(
    "/v1/messages",
    operation_id="createMessage",
    status_code=200,
    tags=["messages"],
    opt=described(
        needs="models:use",
        body=Body(kind=MessageCreate, examples=EXAMPLES),
        answer=MessageOut,
        streams=MessageEvent,
        codes=(*MODEL_CALL, "unsupported_parameter", "local_model_unavailable"),
        headers=(*TRAIL, *CACHED),
    ),
)
async def create_message(request: Request[Any, Any, State], principal: Principal, messages: MessagesService) -> ASGIApp:
    """Answer a conversation on Anthropic's wire: whole, or streamed with `stream: true`."""
    asked = read_messages_request(await request.body(), request.scope["headers"], deadline_of(request.scope))
    if asked.stream:
        streamed = await while_connected(request, messages.stream(principal, asked))
        trail = trail_of(streamed, 0 if streamed.cache == "hit" else None)
        return AnthropicEventStream(streamed.pieces, trail | _request_id(request))
    done = await while_connected(request, messages.complete(principal, asked))
    trail = trail_of(done, done.cost_nusd)
    return JsonAnswer(done.reply.body, trail | _request_id(request))


@post(
    "/v1/messages/count_tokens",
    operation_id="countMessageTokens",
    status_code=200,
    tags=["messages"],
    opt=described(
        needs="models:use",
        body=Body(kind=MessageCount, examples=COUNT_EXAMPLES),
        codes=(*MODEL_CALL, "unsupported_parameter"),
    ),
)
async def count_message_tokens(
    request: Request[Any, Any, State], principal: Principal, messages: MessagesService
) -> TokenCount:
    """Count the tokens of a request without sending it: by the vendor where it counts, else an estimate."""
    body = await request.body()
    asked = read_messages_request(body, request.scope["headers"], deadline_of(request.scope), is_count=True)
    return TokenCount(input_tokens=await while_connected(request, messages.count(principal, asked)))


def _request_id(request: Request[Any, Any, State]) -> dict[str, str]:
    """Under the name where Anthropic's SDKs look for it, beside `x-request-id`."""
    found = request.scope["state"].get(REQUEST_ID)
    return {"request-id": found} if isinstance(found, str) else {}
