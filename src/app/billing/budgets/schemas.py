"""Budgets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.billing.budgets.model import EVER, Budget, Period, Scope, Use
from app.ids import encode_id

Amount = Annotated[int, Meta(ge=0, le=10**18)]
"""Nano-dollars: a billion dollars at most, far below what the database adds up."""
ScopeId = Annotated[str, Meta(min_length=1, max_length=200)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]


class BudgetCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`scope_id`: the id of the tenant, user or key, or the model's name as clients ask for it. A dollar is
    1,000,000,000 nano-dollars. `tenant_id` is for the platform administrator; everybody else's is their own."""

    scope: Scope
    scope_id: ScopeId
    amount_nusd: Amount
    period: Period
    allow_unpriced: bool = False
    webhook_url: Url | None = None
    tenant_id: str | None = None


CREATE_EXAMPLES = {
    "ten dollars a month for a user": {
        "scope": "user",
        "scope_id": "user_019a2b3c4d5e7f8091a2b3c4d5e6f708",
        "amount_nusd": 10_000_000_000,
        "period": "month",
    }
}


class BudgetUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays."""

    amount_nusd: Amount | msgspec.UnsetType = msgspec.UNSET
    allow_unpriced: bool | msgspec.UnsetType = msgspec.UNSET
    webhook_url: Url | msgspec.UnsetType | None = msgspec.UNSET


UPDATE_EXAMPLES = {"twice as much": {"amount_nusd": 20_000_000_000}}


class BudgetOut(msgspec.Struct, frozen=True, kw_only=True):
    """A budget and its current period. `reserved_nusd` is lent to replicas for calls under way and the next ones."""

    id: str
    tenant_id: str
    scope: Scope
    scope_id: str
    period: Period
    period_start: datetime | None
    amount_nusd: int
    spent_nusd: int
    reserved_nusd: int
    remaining_nusd: int
    allow_unpriced: bool
    webhook_url: str | None
    created_at: datetime

    @classmethod
    def of(cls, budget: Budget, use: Use) -> BudgetOut:
        return cls(**_fields(budget, use))


class BudgetCreated(BudgetOut, frozen=True, kw_only=True):
    """`webhook_secret` signs what is sent to `webhook_url`, as Standard Webhooks has it."""

    webhook_secret: str

    @classmethod
    def made(cls, budget: Budget, use: Use, webhook_secret: str) -> BudgetCreated:
        return cls(**_fields(budget, use), webhook_secret=webhook_secret)


def _fields(budget: Budget, use: Use) -> dict[str, Any]:
    return {
        "id": encode_id("bud", budget.id),
        "tenant_id": encode_id("ten", budget.tenant_id),
        "scope": budget.scope,
        "scope_id": _scope_id(budget),
        "period": budget.period,
        "period_start": None if use.period_start == EVER else use.period_start,
        "amount_nusd": budget.amount_nusd,
        "spent_nusd": use.spent_nusd,
        "reserved_nusd": use.reserved_nusd,
        "remaining_nusd": max(0, budget.amount_nusd - use.spent_nusd - use.reserved_nusd),
        "allow_unpriced": budget.allow_unpriced,
        "webhook_url": budget.webhook_url,
        "created_at": budget.created_at,
    }


def _scope_id(budget: Budget) -> str:
    if budget.user_id is not None:
        return encode_id("user", budget.user_id)
    if budget.key_id is not None:
        return encode_id("key", budget.key_id)
    return budget.model if budget.model is not None else encode_id("ten", budget.tenant_id)
