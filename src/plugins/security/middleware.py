"""Authentication in front of every route. Default deny: a route is open only where it says `opt={"public": True}`.

There nobody needs a credential, and of those that are sent only the administrator's counts: it is known by heart. All
other routes name the permission that they need; one that names none is the platform administrator's. Who is known is
held to the limits of tenant, user and key; who is not, to that of the address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from litestar.middleware import ASGIMiddleware
from litestar.routes import HTTPRoute

from plugins.contract.errors import AuthenticationFailed, PermissionDenied
from plugins.contract.permissions import PERMISSION, is_public
from plugins.contract.work import for_tenant
from plugins.security.authenticator import Authenticator
from plugins.security.limits.limiter import Limiter
from plugins.security.limits.telling import telling

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

PRINCIPAL = "principal"
"""Key in `scope["state"]`; `app.http.context` reads it."""

UNLIMITED = ("operations", "unlimited")
"""Keys in the `opt` of public routes that anybody may ask at any rate: probes, scrapers, and what browsers load."""


class AuthenticationMiddleware(ASGIMiddleware):
    """Raises what the authenticator raises: Litestar hands it to the app's exception handlers, which render it."""

    def __init__(self, authenticator: Authenticator, limiter: Limiter) -> None:
        self._authenticator = authenticator
        self._limiter = limiter

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        opt = scope["route_handler"].opt
        if not is_public(opt):
            try:
                principal = await self._authenticator.authenticate(scope["headers"])
            except AuthenticationFailed:
                await self._limiter.admit_address(_address(scope))
                raise
            scope["state"][PRINCIPAL] = principal
            for_tenant(principal.tenant_id)
            if principal.tenant_id is not None:
                caller = await self._limiter.caller(principal.tenant_id, principal.user_id, principal.key_id)
                if caller is not None:
                    await self._limiter.admit_request(caller)
                    send = telling(send, caller, self._limiter.clock)
            needed = opt.get(PERMISSION, "platform:manage")
            # OPTIONS is Litestar's own, and says nothing but which methods there are.
            if needed not in principal.permissions and cast("HTTPScope", scope)["method"] != "OPTIONS":
                raise PermissionDenied(f"this credential may not do this: the permission {needed} is needed")
        elif (administrator := self._authenticator.administrator(scope["headers"])) is not None:
            scope["state"][PRINCIPAL] = administrator
        elif not any(opt.get(name) is True for name in UNLIMITED):
            await self._limiter.admit_address(_address(scope))
        await next_app(scope, receive, send)


def limits_anybody(app: Litestar) -> bool:
    """Whether there is a route that is limited. A worker has none, so it must take part in no limit."""
    return any(
        not (is_public(handler.opt) and any(handler.opt.get(name) is True for name in UNLIMITED))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.http_methods != {"OPTIONS"}  # Litestar's own
    )


def _address(scope: Scope) -> str:
    client = scope["client"]
    return client[0] if client else "unknown"
