"""`/v1/moderations`."""

from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.types import ASGIApp

from app.http.answer import JsonAnswer
from app.http.deadline import deadline_of
from app.http.disconnect import while_connected
from app.http.openapi.describe import MODEL_CALL, Body, described
from app.http.openapi.headers import TRAIL
from app.http.trail import trail_headers
from app.moderations.schemas import EXAMPLES, Moderation, ModerationCreate, read_moderation_request
from app.moderations.service import ModerationService
from plugins.contract.principal import Principal


@post(
    "/v1/moderations",
    operation_id="createModeration",
    status_code=200,
    tags=["moderations"],
    opt=described(
        needs="models:use",
        body=Body(kind=ModerationCreate, examples=EXAMPLES),
        answer=Moderation,
        codes=MODEL_CALL,
        headers=TRAIL,
    ),
)
async def create_moderation(
    request: Request[Any, Any, State], principal: Principal, moderations: ModerationService
) -> ASGIApp:
    """Classify texts or pictures."""
    asked = read_moderation_request(await request.body())
    deadline_s = deadline_of(request.scope)
    done = await while_connected(request, moderations.moderate(principal, asked, deadline_s))
    trail = trail_headers(target=done.target.id, attempts=done.attempts, cost_nusd=done.cost_nusd)
    return JsonAnswer(done.reply.body, trail)
