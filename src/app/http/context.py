"""Who calls, as route handlers receive it: `principal: Principal` and `tenant_id: TenantId` are dependencies.

The security plugin leaves the principal in the request's state; while it is off, `Capabilities.anonymous` stands in.
A request without either is refused: forgetting the middleware can never open a route.
"""

from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.di import Provide

from plugins.contract.errors import AuthenticationFailed, PermissionDenied
from plugins.contract.principal import Principal, TenantId

PRINCIPAL = "principal"
"""Key in `scope["state"]` where the security plugin leaves the `Principal`."""

REQUEST_ID = "request_id"
"""Key in `scope["state"]` where the observability plugin leaves the request id."""


def known_principal(request: Request[Any, Any, State], anonymous: Principal | None) -> Principal | None:
    """None: nobody was authenticated and anonymous access is off. Whatever else stands there is nobody, too."""
    principal = request.scope["state"].get(PRINCIPAL, anonymous)
    return principal if isinstance(principal, Principal) else None


def principal_of(request: Request[Any, Any, State], anonymous: Principal | None) -> Principal:
    """Raises: AuthenticationFailed when nobody was authenticated and anonymous access is off."""
    principal = known_principal(request, anonymous)
    if principal is None:
        raise AuthenticationFailed("a valid API key is needed: Authorization: Bearer sk-wattos-…")
    return principal


def tenant_id_of(principal: Principal) -> TenantId:
    """Raises: PermissionDenied for the platform administrator's key, which belongs to no tenant."""
    if principal.tenant_id is None:
        raise PermissionDenied(
            "the administrator's key belongs to no tenant and has no data: make a key with POST /api/v1/keys"
        )
    return principal.tenant_id


def dependencies(anonymous: Principal | None) -> dict[str, Provide]:
    """The dependencies that every route may name."""

    def provide_principal(request: Request[object, object, State]) -> Principal:
        return principal_of(request, anonymous)

    return {
        "principal": Provide(provide_principal, sync_to_thread=False),
        "tenant_id": Provide(tenant_id_of, sync_to_thread=False),
    }
