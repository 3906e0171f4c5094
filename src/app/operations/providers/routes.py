"""`/api/v1/providers`: how each target fares, and its breaker. For the platform's administrator."""

from typing import Any

from litestar import Request, Router, get, post, put
from litestar.datastructures import State

from app.audit.model import Actor
from app.database.paging import DEFAULT_LIMIT
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.operations.providers.schemas import PUT_EXAMPLES, BreakerPut, ProviderOut
from app.operations.providers.service import ProvidersService


@get("/", operation_id="listProviders", opt=described(needs="platform:manage", codes=("not_found",)))
async def list_providers(
    providers: ProvidersService, limit: Limit = DEFAULT_LIMIT, after: str | None = None
) -> Page[ProviderOut]:
    """The targets of the configuration, in its order: their breakers, errors and times, at the replica that answers."""
    rows = providers.page(limit=limit, after=decode_id("prov", after) if after else None)
    shown = [ProviderOut.of(provider) for provider in rows.items]
    return page(shown, [provider.id for provider in shown], has_more=rows.has_more)


@post(
    "/{provider_id:str}/reset",
    operation_id="resetProvider",
    status_code=200,
    opt=described(needs="platform:manage", codes=("not_found", "not_configured")),
)
async def reset_provider(provider_id: str, actor: Actor, providers: ProvidersService) -> ProviderOut:
    """Close its breaker, forget its failures, and force nothing any more. On all replicas."""
    return ProviderOut.of(await providers.reset(actor, decode_id("prov", provider_id)))


@put(
    "/{provider_id:str}/breaker",
    operation_id="setProviderBreaker",
    opt=described(
        needs="platform:manage",
        body=Body(kind=BreakerPut, examples=PUT_EXAMPLES),
        codes=("not_found", "not_configured"),
    ),
)
async def set_provider_breaker(
    request: Request[Any, Any, State], provider_id: str, actor: Actor, providers: ProvidersService
) -> ProviderOut:
    """Never call it, always call it, or judge it by its outcomes again. On all replicas."""
    asked = decode_body(await request.body(), BreakerPut)
    return ProviderOut.of(await providers.force(actor, decode_id("prov", provider_id), asked.forced))


router = Router(
    "/api/v1/providers", route_handlers=[list_providers, reset_provider, set_provider_breaker], tags=["operations"]
)
