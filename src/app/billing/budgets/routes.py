"""`/api/v1/budgets`: what tenants, users, keys and models may cost."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Router, delete, get, patch, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from app.audit.model import Actor
from app.billing.budgets.schemas import (
    CREATE_EXAMPLES,
    UPDATE_EXAMPLES,
    BudgetCreate,
    BudgetCreated,
    BudgetOut,
    BudgetUpdate,
)
from app.billing.budgets.service import BudgetsService
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.http.body import decode_body
from app.http.openapi.describe import Body, described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.tenancy import own_tenant, tenant_of
from plugins.contract.principal import Principal

AnyRequest = Request[Any, Any, State]

OfTenant = Annotated[str | None, QueryParameter(name="tenant_id")]


@post(
    "/",
    operation_id="createBudget",
    opt=described(
        needs="limits:manage",
        body=Body(kind=BudgetCreate, examples=CREATE_EXAMPLES),
        codes=("not_found", "missing_field", "conflict", "address_refused"),
    ),
)
async def create_budget(
    request: AnyRequest, principal: Principal, actor: Actor, budgets: BudgetsService
) -> BudgetCreated:
    """Set a budget. What was spent in its period before counts too. A whole tenant's is the administrator's to set."""
    asked = decode_body(await request.body(), BudgetCreate)
    user_id = decode_id("user", asked.scope_id) if asked.scope == "user" else None
    key_id = decode_id("key", asked.scope_id) if asked.scope == "key" else None
    made, use = await budgets.create(
        principal,
        actor,
        tenant_id=await _tenant_of(principal, asked, budgets, user_id, key_id),
        scope=asked.scope,
        user_id=user_id,
        key_id=key_id,
        model=asked.scope_id if asked.scope == "model" else None,
        period=asked.period,
        amount_nusd=asked.amount_nusd,
        allow_unpriced=asked.allow_unpriced,
        webhook_url=asked.webhook_url,
    )
    return BudgetCreated.made(made, use, budgets.webhook_secret(made.id))


@get("/", operation_id="listBudgets", opt=described(needs="usage:read", codes=("not_found", "missing_field")))
async def list_budgets(
    principal: Principal,
    budgets: BudgetsService,
    of_tenant: OfTenant = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[BudgetOut]:
    """The tenant's budgets, newest first, each with its current period."""
    wanted = PageRequest(limit=limit, after=decode_id("bud", after) if after else None)
    rows, uses = await budgets.page(tenant_of(principal, of_tenant), wanted)
    shown = [BudgetOut.of(budget, uses[budget.id]) for budget in rows.items]
    return page(shown, [budget.id for budget in shown], has_more=rows.has_more)


@get("/{id:str}", operation_id="getBudget", opt=described(needs="usage:read", codes=("not_found",)))
async def get_budget(id: str, principal: Principal, budgets: BudgetsService) -> BudgetOut:
    """One budget and its current period."""
    return BudgetOut.of(*await budgets.get(own_tenant(principal), decode_id("bud", id)))


@patch(
    "/{id:str}",
    operation_id="updateBudget",
    opt=described(
        needs="limits:manage",
        body=Body(kind=BudgetUpdate, examples=UPDATE_EXAMPLES),
        codes=("not_found", "address_refused"),
    ),
)
async def update_budget(
    id: str, request: AnyRequest, principal: Principal, actor: Actor, budgets: BudgetsService
) -> BudgetOut:
    """Change a budget: within a second it is in force everywhere."""
    asked = decode_body(await request.body(), BudgetUpdate)
    changes = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not msgspec.UNSET}
    return BudgetOut.of(*await budgets.update(principal, actor, own_tenant(principal), decode_id("bud", id), changes))


@delete("/{id:str}", operation_id="deleteBudget", opt=described(needs="limits:manage", codes=("not_found",)))
async def delete_budget(id: str, principal: Principal, actor: Actor, budgets: BudgetsService) -> None:
    """Delete a budget: calls are limited by it no more."""
    await budgets.delete(principal, actor, own_tenant(principal), decode_id("bud", id))


async def _tenant_of(
    principal: Principal, asked: BudgetCreate, budgets: BudgetsService, user_id: UUID | None, key_id: UUID | None
) -> UUID:
    """The administrator may name a user or a key alone: they are of one tenant."""
    if asked.scope == "tenant":
        return tenant_of(principal, asked.scope_id)
    if principal.is_platform_admin and asked.tenant_id is None and asked.scope != "model":
        return await budgets.tenant_of_owner(user_id=user_id, key_id=key_id)
    return tenant_of(principal, asked.tenant_id)


router = Router(
    "/api/v1/budgets",
    route_handlers=[create_budget, list_budgets, get_budget, update_budget, delete_budget],
    tags=["billing"],
)
