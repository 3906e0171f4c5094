"""Where health, metrics and plugins are served: beside the API or, with MANAGEMENT_PORT, on a listener of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler

from app.http.context import PRINCIPAL
from plugins.contract.principal import Principal

Connection = ASGIConnection[Any, Any, Any, Any]

OPERATIONS: dict[str, Any] = {"public": True, "operations": True}
"""The `opt` of a route for operators and probes, not for tenants. No credential: probes and scrapers have none."""


def each_on_its_listener(management_port: int) -> Callable[[Connection, BaseRouteHandler], None]:
    """On the management port there are operations alone, and elsewhere all but those: the others are not found."""

    def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        server = connection.scope["server"]
        is_management = server is not None and server[1] == management_port
        if is_management != (handler.opt.get("operations") is True):
            raise NotFoundException

    return guard


def by_operator(management_port: int | None, anonymous: Principal | None) -> Provide:
    """The dependency `by_operator`: whether the request is from who may read names of the configuration.

    That is whoever reaches the management port; without one, the administrator.
    """

    def provide(request: Request[Any, Any, Any]) -> bool:
        if management_port is not None:
            return True  # elsewhere the route is not found
        principal = request.scope["state"].get(PRINCIPAL, anonymous)
        return isinstance(principal, Principal) and principal.is_platform_admin

    return Provide(provide, sync_to_thread=False)
