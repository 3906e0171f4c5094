"""`/api/v1/provider-keys`: a tenant's own keys of model vendors."""

from typing import Annotated, Any

from litestar import Request, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.provider_keys.schemas import PUT_EXAMPLES, ProviderKeyOut, ProviderKeyPut
from app.provider_keys.service import ProviderKeysService
from app.tenancy import tenant_of
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

OfTenant = Annotated[str | None, QueryParameter(name="tenant_id")]


@post(
    "/",
    operation_id="putProviderKey",
    status_code=200,
    opt=described(
        needs="provider-keys:manage",
        body=Body(kind=ProviderKeyPut, examples=PUT_EXAMPLES),
        codes=("not_found", "missing_field", "address_refused", "not_configured"),
    ),
)
async def put_provider_key(
    request: AnyRequest, principal: Principal, actor: Actor, provider_keys: ProviderKeysService
) -> ProviderKeyOut:
    """Set the tenant's key of a vendor, in the place of the one there is. It is never shown again."""
    asked = decode_body(await request.body(), ProviderKeyPut)
    made = await provider_keys.put(
        actor,
        tenant_id=tenant_of(principal, asked.tenant_id),
        provider=asked.provider,
        key=asked.key,
        name=asked.name.strip(),
        base_url=asked.base_url,
    )
    return ProviderKeyOut.of(made)


@get(
    "/",
    operation_id="listProviderKeys",
    opt=described(needs="provider-keys:manage", codes=("not_found", "missing_field")),
)
async def list_provider_keys(
    principal: Principal,
    provider_keys: ProviderKeysService,
    of_tenant: OfTenant = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[ProviderKeyOut]:
    """The tenant's own keys, without their secrets."""
    wanted = PageRequest(limit=limit, after=decode_id("pkey", after) if after else None)
    rows = await provider_keys.list(tenant_of(principal, of_tenant), wanted)
    shown = [ProviderKeyOut.of(key) for key in rows.items]
    return page(shown, [key.id for key in shown], has_more=rows.has_more)


@delete(
    "/{id:str}",
    operation_id="deleteProviderKey",
    opt=described(needs="provider-keys:manage", codes=("not_found", "missing_field")),
)
async def delete_provider_key(
    id: str,
    principal: Principal,
    actor: Actor,
    provider_keys: ProviderKeysService,
    of_tenant: OfTenant = None,
) -> None:
    """Delete an own key: within a second calls go with the operator's again."""
    await provider_keys.delete(actor, tenant_of(principal, of_tenant), decode_id("pkey", id))


router = Router(
    "/api/v1/provider-keys",
    route_handlers=[put_provider_key, list_provider_keys, delete_provider_key],
    tags=["accounts"],
)
