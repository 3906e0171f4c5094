"""Where health, metrics and plugins are served: beside the API or, with MANAGEMENT_PORT, on a listener of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.middleware import ASGIMiddleware

from app.http.context import known_principal
from plugins.contract.principal import Principal

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

OPERATIONS: dict[str, Any] = {"public": True, "operations": True}
"""The `opt` of a route for operators and probes, not for tenants. No credential: probes and scrapers have none."""


class EachOnItsListener(ASGIMiddleware):
    """On the management port there are operations alone, and elsewhere all but those: the others are not found.

    Around all other middleware: nobody is asked who they are for what is not there.
    """

    def __init__(self, management_port: int) -> None:
        self._management_port = management_port

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        server = scope["server"]
        is_management = server is not None and server[1] == self._management_port
        if is_management != (scope["route_handler"].opt.get("operations") is True):
            raise NotFoundException
        await next_app(scope, receive, send)


def by_operator(management_port: int | None, anonymous: Principal | None) -> Provide:
    """The dependency `by_operator`: whether the request is from who may read names of the configuration.

    That is whoever reaches the management port; without one, the administrator.
    """

    def provide(request: Request[Any, Any, Any]) -> bool:
        if management_port is not None:
            return True  # elsewhere the route is not found
        principal = known_principal(request, anonymous)
        return principal is not None and principal.is_platform_admin

    return Provide(provide, sync_to_thread=False)
