"""`/v1/completions`."""

from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.types import ASGIApp

from app.completions.schemas import EXAMPLES, CompletionCreate, TextCompletion, read_completion_request
from app.completions.service import CompletionService
from app.http.answer import EventStream, JsonAnswer
from app.http.deadline import deadline_of
from app.http.disconnect import while_connected
from app.http.openapi.describe import MODEL_CALL, Body, described
from app.http.openapi.headers import CACHED, TRAIL
from app.model_calls import trail_of
from plugins.contract.principal import Principal


@post(
    "/v1/completions",
    operation_id="createCompletion",
    status_code=200,
    tags=["completions"],
    opt=described(
        needs="models:use",
        body=Body(kind=CompletionCreate, examples=EXAMPLES),
        answer=TextCompletion,
        streams=TextCompletion,
        codes=(*MODEL_CALL, "unsupported_parameter", "local_model_unavailable"),
        headers=(*TRAIL, *CACHED),
    ),
)
async def create_completion(
    request: Request[Any, Any, State], principal: Principal, completions: CompletionService
) -> ASGIApp:
    """Continue a text: whole, or streamed with `stream: true`."""
    asked = read_completion_request(await request.body(), deadline_of(request.scope))
    if asked.stream:
        streamed = await while_connected(request, completions.stream(principal, asked))
        trail = trail_of(streamed, 0 if streamed.cache == "hit" else None)
        return EventStream(streamed.pieces, trail)
    done = await while_connected(request, completions.complete(principal, asked))
    trail = trail_of(done, done.cost_nusd)
    return JsonAnswer(done.reply.body, trail)
