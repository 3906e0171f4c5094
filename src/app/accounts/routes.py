"""`/api/v1/tenants` and `/api/v1/keys`: for the platform's administrator, and a tenant's keys for its own."""

from typing import Annotated, Any

from litestar import Request, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.accounts.schemas import KEY_EXAMPLES, TENANT_EXAMPLES, KeyCreate, KeyCreated, KeyOut, TenantCreate, TenantOut
from app.accounts.service import AccountsService
from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.tenancy import own_tenant, tenant_of
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

NAMED_KEY = described(needs="keys:manage", codes=("not_found",))


@post(
    "/tenants",
    operation_id="createTenant",
    opt=described(needs="platform:manage", body=Body(kind=TenantCreate, examples=TENANT_EXAMPLES), codes=("conflict",)),
)
async def create_tenant(request: AnyRequest, actor: Actor, accounts: AccountsService) -> TenantOut:
    """Make a tenant."""
    asked = decode_body(await request.body(), TenantCreate)
    return TenantOut.of(await accounts.create_tenant(actor, name=asked.name, slug=asked.slug))


@get("/tenants", operation_id="listTenants", opt=described(needs="platform:manage", codes=("not_found",)))
async def list_tenants(
    accounts: AccountsService, limit: Limit = DEFAULT_LIMIT, after: str | None = None
) -> Page[TenantOut]:
    """All tenants, newest first."""
    rows = await accounts.list_tenants(PageRequest(limit=limit, after=decode_id("ten", after) if after else None))
    shown = [TenantOut.of(tenant) for tenant in rows.items]
    return page(shown, [tenant.id for tenant in shown], has_more=rows.has_more)


@get("/tenants/{id:str}", operation_id="getTenant", opt=described(needs="self:read", codes=("not_found",)))
async def get_tenant(id: str, principal: Principal, accounts: AccountsService) -> TenantOut:
    """One tenant: your own, or any for the platform's administrator."""
    return TenantOut.of(await accounts.get_tenant(tenant_of(principal, id)))


@post(
    "/keys",
    operation_id="createKey",
    opt=described(
        needs="keys:manage", body=Body(kind=KeyCreate, examples=KEY_EXAMPLES), codes=("not_found", "missing_field")
    ),
)
async def create_key(request: AnyRequest, principal: Principal, actor: Actor, accounts: AccountsService) -> KeyCreated:
    """Make a key that may do no more than you. The answer is the only place where it is shown."""
    asked = decode_body(await request.body(), KeyCreate)
    issued = await accounts.create_key(
        principal,
        actor,
        tenant_id=tenant_of(principal, asked.tenant_id),
        name=asked.name,
        user_id=None if asked.user_id is None else decode_id("user", asked.user_id),
        scopes=asked.scopes,
        models=asked.models,
        expires_at=asked.expires_at,
    )
    return KeyCreated.issued(issued)


@get("/keys", operation_id="listKeys", opt=described(needs="keys:manage", codes=("not_found", "missing_field")))
async def list_keys(
    principal: Principal,
    accounts: AccountsService,
    of_tenant: Annotated[str | None, QueryParameter(name="tenant_id")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[KeyOut]:
    """A tenant's keys, newest first, without their secrets."""
    wanted = PageRequest(limit=limit, after=decode_id("key", after) if after else None)
    rows = await accounts.list_keys(tenant_of(principal, of_tenant), wanted)
    shown = [KeyOut.of(key) for key in rows.items]
    return page(shown, [key.id for key in shown], has_more=rows.has_more)


@get("/keys/{id:str}", operation_id="getKey", opt=NAMED_KEY)
async def get_key(id: str, principal: Principal, accounts: AccountsService) -> KeyOut:
    """One key, without its secret."""
    return KeyOut.of(await accounts.get_key(own_tenant(principal), decode_id("key", id)))


@delete("/keys/{id:str}", operation_id="revokeKey", opt=NAMED_KEY)
async def revoke_key(id: str, principal: Principal, actor: Actor, accounts: AccountsService) -> None:
    """Revoke a key: within a second it is dead everywhere."""
    await accounts.revoke_key(actor, own_tenant(principal), decode_id("key", id))


router = Router(
    "/api/v1",
    route_handlers=[create_tenant, list_tenants, get_tenant, create_key, list_keys, get_key, revoke_key],
    tags=["accounts"],
)
