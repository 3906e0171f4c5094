"""Authentication in front of every route. Default deny: a route is open only where it says `opt={"public": True}`.

There nobody needs a credential, and of those that are sent only the administrator's counts: it is known by heart. All
other routes name the permission that they need; one that names none is the platform administrator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from litestar.middleware import ASGIMiddleware

from plugins.contract.errors import PermissionDenied
from plugins.contract.permissions import PERMISSION, is_public
from plugins.contract.work import for_tenant
from plugins.security.authenticator import Authenticator

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

PRINCIPAL = "principal"
"""Key in `scope["state"]`; `app.http.context` reads it."""


class AuthenticationMiddleware(ASGIMiddleware):
    """Raises what the authenticator raises: Litestar hands it to the app's exception handlers, which render it."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        opt = scope["route_handler"].opt
        if not is_public(opt):
            principal = await self._authenticator.authenticate(scope["headers"])
            scope["state"][PRINCIPAL] = principal
            for_tenant(principal.tenant_id)
            needed = opt.get(PERMISSION, "platform:manage")
            # OPTIONS is Litestar's own, and says nothing but which methods there are.
            if needed not in principal.permissions and cast("HTTPScope", scope)["method"] != "OPTIONS":
                raise PermissionDenied(f"this credential may not do this: the permission {needed} is needed")
        elif (administrator := self._authenticator.administrator(scope["headers"])) is not None:
            scope["state"][PRINCIPAL] = administrator
        await next_app(scope, receive, send)
