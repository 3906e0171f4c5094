"""`/api/v1/tenants` and `/api/v1/keys`: for the platform's administrator."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.accounts.schemas import KEY_EXAMPLES, TENANT_EXAMPLES, KeyCreate, KeyCreated, KeyOut, TenantCreate, TenantOut
from app.accounts.service import AccountsService, require_platform_admin
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.errors import InvalidRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

ADMIN_ONLY = described(codes=("permission_denied", "not_found"))


@post(
    "/tenants",
    operation_id="createTenant",
    opt=described(body=Body(kind=TenantCreate, examples=TENANT_EXAMPLES), codes=("permission_denied", "conflict")),
)
async def create_tenant(request: AnyRequest, principal: Principal, accounts: AccountsService) -> TenantOut:
    """Make a tenant."""
    require_platform_admin(principal)
    asked = decode_body(await request.body(), TenantCreate)
    return TenantOut.of(await accounts.create_tenant(name=asked.name, slug=asked.slug))


@get("/tenants", operation_id="listTenants", opt=ADMIN_ONLY)
async def list_tenants(
    principal: Principal, accounts: AccountsService, limit: Limit = DEFAULT_LIMIT, after: str | None = None
) -> Page[TenantOut]:
    """All tenants, newest first."""
    require_platform_admin(principal)
    rows = await accounts.list_tenants(PageRequest(limit=limit, after=decode_id("ten", after) if after else None))
    shown = [TenantOut.of(tenant) for tenant in rows.items]
    return page(shown, [tenant.id for tenant in shown], has_more=rows.has_more)


@get("/tenants/{id:str}", operation_id="getTenant", opt=ADMIN_ONLY)
async def get_tenant(id: str, principal: Principal, accounts: AccountsService) -> TenantOut:
    """One tenant."""
    require_platform_admin(principal)
    return TenantOut.of(await accounts.get_tenant(decode_id("ten", id)))


@post(
    "/keys",
    operation_id="createKey",
    opt=described(body=Body(kind=KeyCreate, examples=KEY_EXAMPLES), codes=("permission_denied", "not_found")),
)
async def create_key(request: AnyRequest, principal: Principal, accounts: AccountsService) -> KeyCreated:
    """Make a key. The answer is the only place where it is shown."""
    require_platform_admin(principal)
    asked = decode_body(await request.body(), KeyCreate)
    issued = await accounts.create_key(
        tenant_id=decode_id("ten", asked.tenant_id),
        name=asked.name,
        user_id=_user_id(asked.user_id),
        scopes=asked.scopes,
        models=asked.models,
        expires_at=asked.expires_at,
    )
    return KeyCreated.issued(issued)


@get("/keys", operation_id="listKeys", opt=ADMIN_ONLY)
async def list_keys(
    principal: Principal,
    accounts: AccountsService,
    of_tenant: Annotated[str, QueryParameter(name="tenant_id")],
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[KeyOut]:
    """A tenant's keys, newest first, without their secrets."""
    require_platform_admin(principal)
    wanted = PageRequest(limit=limit, after=decode_id("key", after) if after else None)
    rows = await accounts.list_keys(decode_id("ten", of_tenant), wanted)
    shown = [KeyOut.of(key) for key in rows.items]
    return page(shown, [key.id for key in shown], has_more=rows.has_more)


@delete("/keys/{id:str}", operation_id="revokeKey", opt=ADMIN_ONLY)
async def revoke_key(id: str, principal: Principal, accounts: AccountsService) -> None:
    """Revoke a key: within a second it is dead everywhere."""
    require_platform_admin(principal)
    await accounts.revoke_key(decode_id("key", id))


def _user_id(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text.removeprefix("user_"))
    except ValueError:
        raise InvalidRequest("user_id is no id", param="user_id") from None


router = Router(
    "/api/v1",
    route_handlers=[create_tenant, list_tenants, get_tenant, create_key, list_keys, revoke_key],
    tags=["accounts"],
)
