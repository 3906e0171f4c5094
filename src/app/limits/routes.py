"""`/api/v1/limits`: what tenants, users and keys may use a minute, and at once."""

from typing import Annotated, Any

from litestar import Request, Router, get, put
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.limits.model import PREFIXES, Allowance, scope_id_of
from app.limits.schemas import PUT_EXAMPLES, LimitOut, LimitPut
from app.limits.service import LimitsService
from app.tenancy import own_tenant, tenant_of
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

OfTenant = Annotated[str | None, QueryParameter(name="tenant_id")]


@put(
    "/",
    operation_id="putLimit",
    opt=described(
        needs="limits:manage", body=Body(kind=LimitPut, examples=PUT_EXAMPLES), codes=("not_found", "missing_field")
    ),
)
async def put_limit(request: AnyRequest, principal: Principal, actor: Actor, limits: LimitsService) -> LimitOut:
    """Set what a user or a key may use, or a tenant (the platform's administrator alone), in the place of what was set.
    In force within a second."""
    asked = decode_body(await request.body(), LimitPut)
    made = await limits.put(
        principal,
        actor,
        tenant_id=own_tenant(principal) if asked.tenant_id is None else tenant_of(principal, asked.tenant_id),
        scope=asked.scope,
        scope_id=decode_id(PREFIXES[asked.scope], asked.scope_id),
        allowance=Allowance(
            requests_per_minute=asked.requests_per_minute,
            tokens_per_minute=asked.tokens_per_minute,
            max_concurrency=asked.max_concurrency,
        ),
    )
    return LimitOut.of(made)


@get("/", operation_id="listLimits", opt=described(needs="limits:manage", codes=("not_found", "missing_field")))
async def list_limits(
    principal: Principal,
    limits: LimitsService,
    of_tenant: OfTenant = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[LimitOut]:
    """The limits of the tenant, its users and its keys that were ever set."""
    wanted = PageRequest(limit=limit, after=scope_id_of(after) if after else None)
    rows = await limits.list(tenant_of(principal, of_tenant), wanted)
    shown = [LimitOut.of(one) for one in rows.items]
    return page(shown, [one.scope_id for one in shown], has_more=rows.has_more)


router = Router("/api/v1/limits", route_handlers=[put_limit, list_limits], tags=["accounts"])
