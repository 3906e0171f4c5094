"""A tenant's own prices in the place of those of the price file and of MODELS_CONFIG, for that tenant's calls alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

import msgspec

from app.llm.model import Plan, Target
from app.llm.prices import Price


class TenantPrices(Protocol):
    """What a tenant pays, by target id, for a call that begins now. Raises: RetryableError."""

    async def of(self, tenant_id: UUID) -> Mapping[str, Price]: ...


class NoTenantPrices:
    """No tenant has any."""

    async def of(self, tenant_id: UUID) -> Mapping[str, Price]:
        return {}


async def with_tenant_prices(plan: Plan, tenant_id: UUID | None, prices: TenantPrices) -> Plan:
    """The same plan, its targets at the tenant's prices where it has some. What a call began with, it ends with."""
    if tenant_id is None:
        return plan
    own = await prices.of(tenant_id)
    if not own:
        return plan
    groups = (plan.targets, plan.on_context, plan.on_policy)
    if not any(target.id in own for group in groups for target in group):
        return plan
    targets, on_context, on_policy = (tuple(_priced(target, own) for target in group) for group in groups)
    return Plan(targets=targets, on_context=on_context, on_policy=on_policy)


def _priced(target: Target, own: Mapping[str, Price]) -> Target:
    price = own.get(target.id)
    if price is None:
        return target
    return msgspec.structs.replace(target, price=price, price_source="tenant")
