"""Around every POST of who is known: the innermost middleware, so that authentication and request rates come first.

A request without the header goes straight through: nothing is wrapped, not even awaited here. Routes that are public
have no caller to bind a key to, and their answers hold tokens: there the header does nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

from litestar import Request
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.plugins import InitPlugin

from app.errors import InvalidRequest
from app.http.anthropic_errors import is_anthropic
from app.http.context import PRINCIPAL, REQUEST_ID
from app.http.deadline import deadline_of
from app.http.disconnect import ClientLeft, Watch
from app.http.openapi.describe import DESCRIPTION, Description
from app.idempotency.model import HEADER, Answer, Claim, Place, place_of
from app.idempotency.recording import Given, Passing, Recording
from app.idempotency.service import IdempotencyService
from app.llm.stream import before
from plugins.contract.errors import RetryableError
from plugins.contract.permissions import is_public
from plugins.contract.principal import Principal
from plugins.contract.requests import CLIENT_CLOSED_REQUEST
from plugins.contract.work import noted

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from litestar.config.app import AppConfig
    from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

logger = logging.getLogger("idempotency")

REPLAYED = (b"idempotent-replayed", b"true")

FORM = "multipart/form-data"

AnyRequest = Request[Any, Any, State]


class IdempotencyMiddleware(InitPlugin):
    """Last in the list of plugins, so that its middleware is the innermost."""

    def __init__(self, service: IdempotencyService, anonymous: Principal | None) -> None:
        """`anonymous`: who calls while the security plugin is off."""
        self._service = service
        self._anonymous = anonymous

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.middleware.append(self.around)  # pyright: ignore[reportUnknownMemberType]  # a list without arguments
        return app_config

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app`, whose requests with a key are done once."""

        def handler(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if scope["type"] == ScopeType.HTTP and scope["method"] == "POST":
                for name, _ in scope["headers"]:
                    if name == HEADER:
                        return self._handle(app, scope, receive, send)
            return app(scope, receive, send)

        return cast("ASGIApp", handler)

    async def _handle(self, app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
        principal = scope["state"].get(PRINCIPAL, self._anonymous)
        if is_public(scope["route_handler"].opt) or not isinstance(principal, Principal):
            await app(scope, receive, send)
            return
        keys = [value for name, value in scope["headers"] if name == HEADER]
        if len(keys) != 1:
            raise InvalidRequest("send one Idempotency-Key", param="Idempotency-Key")
        place = place_of(principal, scope["method"], scope["path"], keys[0])
        litestar: Any = scope["litestar_app"]
        request: AnyRequest = litestar.request_class(scope, receive, send)
        found, body = await (self._of_form if _is_form(request) else self._of_whole)(request, place)
        if isinstance(found, Answer):
            await _replay(found, scope, send)
        else:
            await self._do(app, scope, send, found, body)

    async def _of_whole(self, request: AnyRequest, place: Place) -> tuple[Answer | Claim, Given]:
        """Its body is read first, within the bounds of its route, and given to the handler as if it came just now."""
        pieces = [piece async for piece in request.stream()]
        fingerprint = self._service.secrets.fingerprint(request.scope["query_string"])
        body = Given(b"".join(pieces), fingerprint, request.receive)
        with _while_connected(request), before(deadline_of(request.scope)):
            return await self._service.answer_or_claim(place, body.fingerprint), body

    async def _of_form(self, request: AnyRequest, place: Place) -> tuple[Answer | Claim, Passing]:
        """A file may be larger than memory: the first is hashed on its way, another one is read and thrown away."""
        boundary = request.content_type[1].get("boundary", "").encode("latin-1", "replace")
        fingerprint = self._service.secrets.fingerprint(request.scope["query_string"], boundary)
        body = Passing(fingerprint, request.receive)
        found = await self._service.enter(place, None)
        if isinstance(found, Claim):
            return found, body
        async for piece in request.stream():
            fingerprint.add(piece)
        with _while_connected(request), before(deadline_of(request.scope)):
            return await self._service.answer(place, fingerprint.done()), body

    async def _do(self, app: ASGIApp, scope: HTTPScope, send: Send, claim: Claim, body: Given | Passing) -> None:
        async def finish(status: int, answer: Answer | None) -> None:
            try:
                await self._service.finish(claim, body.fingerprint, status, answer)
            except RetryableError as exc:  # who asked gets it nevertheless
                logger.warning("an answer could not be kept: %s", exc.code)

        recording = Recording(scope, send, finish)
        try:
            async with self._service.held(claim):
                await app(scope, body, recording)
        finally:
            if not recording.is_finished:
                await self._service.release(claim)


def _is_form(request: AnyRequest) -> bool:
    """As the route says, or else the client: a route that takes any kind of body must not fill the memory."""
    said = request.scope["route_handler"].opt.get(DESCRIPTION)
    is_forms_route = isinstance(said, Description) and said.body is not None and said.body.media_type == FORM
    return is_forms_route or request.content_type[0].lower() == FORM


@contextlib.contextmanager
def _while_connected(request: AnyRequest) -> Generator[None]:
    """Nobody waits for who has left. The request's body has been read."""
    try:
        with Watch(request.scope, request.receive):
            yield
    except ClientLeft:
        raise HTTPException("the client left", status_code=CLIENT_CLOSED_REQUEST) from None


async def _replay(answer: Answer, scope: HTTPScope, send: Send) -> None:
    """Whole events at once, if it was a stream. The request's id is its own."""
    noted("replayed", True)
    headers = [*answer.headers, REPLAYED]
    request_id = scope["state"].get(REQUEST_ID)
    if isinstance(request_id, str) and is_anthropic(scope["path"]):
        headers.append((b"request-id", request_id.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
