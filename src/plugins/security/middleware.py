"""Authentication in front of every route. Default deny: a route is open only where it says `opt={"public": True}`.

There nobody needs a credential, and of those that are sent only the administrator's counts: it is known by heart. All
other routes name the permission that they need; one that names none is the platform administrator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware

from plugins.contract.errors import PermissionDenied
from plugins.contract.permissions import PERMISSION, is_public
from plugins.contract.principal import Principal
from plugins.contract.work import for_tenant
from plugins.security.authenticator import Authenticator

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

Connection = ASGIConnection[Any, Any, Any, Any]

PRINCIPAL = "principal"
"""Key in `scope["state"]`; `app.http.context` reads it."""


async def permitted(connection: Connection, handler: BaseRouteHandler) -> None:
    """The guard of all routes, after those of the app. Raises: PermissionDenied."""
    opt = handler.opt
    principal: Principal | None = connection.scope["state"].get(PRINCIPAL)
    if is_public(opt) or principal is None or _method_of(connection) == "OPTIONS":
        return  # without a principal no handler gets one either: `app.http.context`
    needed = opt.get(PERMISSION, "platform:manage")
    if needed not in principal.permissions:
        raise PermissionDenied(f"this credential may not do this: the permission {needed} is needed")


def _method_of(connection: Connection) -> str:
    return cast("dict[str, str]", connection.scope).get("method", "")


class AuthenticationMiddleware(ASGIMiddleware):
    """Raises what the authenticator raises: Litestar hands it to the app's exception handlers, which render it."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if not is_public(scope["route_handler"].opt):
            principal = await self._authenticator.authenticate(scope["headers"])
            scope["state"][PRINCIPAL] = principal
            for_tenant(principal.tenant_id)
        elif (administrator := self._authenticator.administrator(scope["headers"])) is not None:
            scope["state"][PRINCIPAL] = administrator
        await next_app(scope, receive, send)
