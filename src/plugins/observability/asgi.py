"""The outermost ASGI layer: it sees every request and every response, those that no route took included.

Litestar's middleware runs after routing, so it never sees 404 and 405, and an exception raised in another plugin's
middleware is rendered outside of it. This layer therefore goes around the whole handler (see `plugin.py`); only what
exception became which response has to be told to it, through the `after_exception` hook.
"""

# pyright: reportUnknownMemberType=false
# The state in Litestar's scopes is a dict without arguments.

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from litestar.enums import ScopeType

from plugins.contract.failure import describe
from plugins.contract.principal import Principal
from plugins.contract.work import doing, for_tenant
from plugins.observability.requests import (
    CLIENT_CLOSED_REQUEST,
    ObservedRequest,
    RequestReport,
    choose_request_id,
    loggable_url,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from litestar import Litestar
    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

REQUEST_ID = "request_id"
"""Key in `scope["state"]`; `app.http.context` reads it."""

_PRINCIPAL = "principal"
_OBSERVED = "plugins.observability"


class RequestObserver:
    """Around one app. Whatever goes wrong in here, the request goes on."""

    def __init__(self, report: RequestReport, anonymous: Principal | None = None) -> None:
        """`anonymous`: who the log names while the security plugin is off."""
        self._report = report
        self._anonymous = anonymous

    @contextlib.contextmanager
    def mounted_on(self, app: Litestar) -> Generator[None]:
        """Around the app's handler: the one place that 404 and 405 pass too; public, but without a hook to reach it."""
        inner, app.asgi_handler = app.asgi_handler, self.around(app.asgi_handler)
        try:
            yield
        finally:
            app.asgi_handler = inner

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app`, observed."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP:
                await self._observe(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return observed

    async def note_exception(self, exc: Exception, scope: Scope) -> None:
        """Litestar's `after_exception` hook: this exception is about to be rendered as the response."""
        with contextlib.suppress(Exception):
            scope["state"][_OBSERVED].err = describe(exc)

    async def _observe(self, app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
        request = _begin(scope)

        def observed_send(message: Message) -> Awaitable[None]:  # no coroutine of its own: streams send often
            if message["type"] == "http.response.start":
                request.status = message["status"]
                request.answered_s = time.perf_counter()
                headers = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
                headers.append((b"x-request-id", request.request_id.encode()))
                message["headers"] = headers
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before the last byte leaves: who has the whole answer finds it counted.
                self._finish(request, scope)
            return send(message)

        with doing(request):
            if self._anonymous is not None:
                for_tenant(self._anonymous.tenant_id)
            try:
                await app(scope, receive, observed_send)
            except Exception as exc:
                # Rendering failed, or the stream broke after its start: Litestar then raises from the real error.
                request.err = describe(exc.__cause__ or exc)
                self._finish(request, scope, aborted=request.status is not None, default_status=500)
                raise
            finally:
                self._finish(request, scope, aborted=True, default_status=CLIENT_CLOSED_REQUEST)

    def _finish(
        self, request: ObservedRequest, scope: HTTPScope, *, aborted: bool = False, default_status: int = 500
    ) -> None:
        if request.finished:
            return
        request.finished = True
        try:  # noqa: SIM105
            self._report.finish(
                request,
                status=request.status or default_status,
                route=scope.get("path_template"),
                principal=scope["state"].get(_PRINCIPAL, self._anonymous),
                aborted=aborted,
            )
        except Exception:  # noqa: BLE001, S110  # whatever it is, the request goes on; `suppress` costs 0.4 µs
            pass


def _begin(scope: HTTPScope) -> ObservedRequest:
    raw_path = scope.get("raw_path") or scope["path"].encode()
    client = scope.get("client")
    request = ObservedRequest(
        request_id=choose_request_id(scope["headers"]),
        method=scope["method"],
        url=loggable_url(raw_path.partition(b"?")[0].decode("latin-1"), scope["query_string"]),
        remote_address=client[0] if client else None,
    )
    state = scope.setdefault("state", {})
    state[REQUEST_ID] = request.request_id
    state[_OBSERVED] = request
    return request
