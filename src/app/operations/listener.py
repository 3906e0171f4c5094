"""Where health, metrics and plugins are served: beside the API or, with MANAGEMENT_PORT, on a listener of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler

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
