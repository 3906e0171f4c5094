"""A plan at a tenant's own prices."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from app.llm.model import Plan, Target
from app.llm.prices import Price
from app.llm.tenant_prices import NoTenantPrices, with_tenant_prices

TENANT, OTHER = UUID(int=1), UUID(int=2)
USUAL = Price(input_nusd_per_mtok=10, output_nusd_per_mtok=20)
OWN = Price(input_nusd_per_mtok=1, output_nusd_per_mtok=2)


def target(name: str) -> Target:
    return Target(
        id=name, alias="a", provider_model=name, transport="direct", price=USUAL, price_source="models_config"
    )


PLAN = Plan(
    targets=(target("one"), target("two")),
    on_context=(target("one"), target("long")),
    on_policy=(target("mild"),),
)


class Prices:
    async def of(self, tenant_id: UUID) -> Mapping[str, Price]:
        return {"one": OWN, "mild": OWN, "elsewhere": OWN} if tenant_id == TENANT else {"elsewhere": OWN}


async def test_every_target_of_a_plan_is_at_the_tenants_price() -> None:
    """Those that stand in, too: a call must not be dearer because it was long."""
    plan = await with_tenant_prices(PLAN, TENANT, Prices())
    assert [(one.price, one.price_source) for one in plan.targets] == [(OWN, "tenant"), (USUAL, "models_config")]
    assert [one.price for one in plan.on_context] == [OWN, USUAL]
    assert [one.price for one in plan.on_policy] == [OWN]
    assert [one.id for one in plan.targets] == ["one", "two"]


async def test_without_a_price_of_its_own_the_plan_stays_the_same_object() -> None:
    """That is almost every call."""
    assert await with_tenant_prices(PLAN, None, Prices()) is PLAN
    assert await with_tenant_prices(PLAN, OTHER, Prices()) is PLAN
    assert await with_tenant_prices(PLAN, TENANT, NoTenantPrices()) is PLAN
