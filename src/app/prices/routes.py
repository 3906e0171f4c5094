"""`/api/v1/prices`: what models cost a tenant, and since when."""

from typing import Annotated, Any

from litestar import Request, get, post
from litestar import Router as RoutesBelow
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.errors import InvalidRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.llm.prices import Price
from app.llm.routing import Router
from app.prices.schemas import SET_EXAMPLES, PriceList, PriceOut, PriceSet, PriceVersionOut
from app.prices.service import PricesService
from app.tenancy import tenant_of
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

OfTarget = Annotated[str | None, QueryParameter(description="Prices at this target only, by its id.")]
OfTenant = Annotated[str | None, QueryParameter(name="tenant_id")]


@get("/", operation_id="getPrices", opt=described(needs="usage:read", codes=("not_found", "missing_field")))
async def get_prices(
    principal: Principal, router: Router, prices: PricesService, of_tenant: OfTenant = None
) -> PriceList:
    """What each target costs the tenant now: of the models that this key may use, and the tenant's own prices."""
    own = dict(await prices.in_force(tenant_of(principal, of_tenant)))
    named = [PriceOut.of_target(one, own.pop(one.id, None)) for one in router.catalog.targets()]
    shown = [one for one in named if one.model is not None and principal.may_use(one.model)]
    return PriceList(data=[*shown, *(PriceOut.of_version(one, None) for one in own.values())])


@post(
    "/",
    operation_id="setPrice",
    status_code=200,
    opt=described(
        needs="platform:manage",
        body=Body(kind=PriceSet, examples=SET_EXAMPLES),
        codes=("not_found", "missing_field"),
    ),
)
async def set_price(
    request: AnyRequest, principal: Principal, actor: Actor, router: Router, prices: PricesService
) -> PriceVersionOut:
    """Set what a target costs a tenant, from now or a moment to come. For the platform's administrator."""
    asked = decode_body(await request.body(), PriceSet)
    _refuse_unknown(router, asked.target)
    made = await prices.set(
        actor,
        tenant_id=tenant_of(principal, asked.tenant_id),
        target=asked.target,
        price=_price(asked),
        valid_from=asked.valid_from,
    )
    return PriceVersionOut.of(made)


@get(
    "/history",
    operation_id="listPriceVersions",
    opt=described(needs="usage:read", codes=("not_found", "missing_field")),
)
async def list_price_versions(
    principal: Principal,
    prices: PricesService,
    of_tenant: OfTenant = None,
    target: OfTarget = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[PriceVersionOut]:
    """Every price that was set for the tenant, newest first: what a past call cost is explained by them."""
    wanted = PageRequest(limit=limit, after=decode_id("price", after) if after else None)
    rows = await prices.history(tenant_of(principal, of_tenant), wanted, target)
    shown = [PriceVersionOut.of(one) for one in rows.items]
    return page(shown, [one.id for one in shown], has_more=rows.has_more)


def _refuse_unknown(router: Router, target: str) -> None:
    """A price of nothing would be silently without effect. Behind a wildcard any target may come."""
    catalog = router.catalog
    if target not in catalog.target_ids() and not any("*" in alias for alias in catalog.aliases()):
        raise InvalidRequest(f"no target {target[:200]!r}: GET /api/v1/prices lists them", param="target")


def _price(asked: PriceSet) -> Price | None:
    """Raises: InvalidRequest."""
    given, made = asked.input_nusd_per_mtok, asked.output_nusd_per_mtok
    others = (asked.cached_nusd_per_mtok, asked.cache_write_nusd_per_mtok, asked.reasoning_nusd_per_mtok)
    if given is None and made is None and others == (None, None, None):
        return None
    if given is None or made is None:
        name = "input_nusd_per_mtok" if given is None else "output_nusd_per_mtok"
        raise InvalidRequest(f"{name} is null, and other prices are not: all of them, or none", param=name)
    return Price(
        input_nusd_per_mtok=given,
        output_nusd_per_mtok=made,
        cached_nusd_per_mtok=asked.cached_nusd_per_mtok,
        cache_write_nusd_per_mtok=asked.cache_write_nusd_per_mtok,
        reasoning_nusd_per_mtok=asked.reasoning_nusd_per_mtok,
    )


router = RoutesBelow("/api/v1/prices", route_handlers=[get_prices, set_price, list_price_versions], tags=["billing"])
