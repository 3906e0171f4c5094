"""The words of this room: a *budget* is spent in *periods*; of each period a process *leases* money, of which its calls
*reserve* what they may cost.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, assert_never
from uuid import UUID

import msgspec

Scope = Literal["tenant", "user", "key", "model"]
Period = Literal["day", "month", "total"]

EVER = datetime(1970, 1, 1, tzinfo=UTC)
"""When the one period of a budget without periods begins."""

THRESHOLDS_PERCENT = (50, 80, 100)
"""Somebody is told when so much of a budget is spent."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant, a user, a key or all calls of one model may cost in a period. Days and months are UTC."""

    id: UUID
    tenant_id: UUID
    scope: Scope
    user_id: UUID | None
    key_id: UUID | None
    model: str | None
    """The alias that clients ask for, whichever target answers."""
    period: Period
    amount_nusd: int
    allow_unpriced: bool
    """Whether models whose price nobody knows may be used, uncounted."""
    webhook_url: str | None
    created_at: datetime

    def covers(self, *, user_id: UUID | None, key_id: UUID | None, model: str) -> bool:
        """Of a call of its tenant."""
        match self.scope:
            case "tenant":
                return True
            case "user":
                return self.user_id == user_id
            case "key":
                return self.key_id == key_id
            case "model":
                return self.model == model
        assert_never(self.scope)

    def period_at(self, moment: datetime) -> datetime:
        """When the period of that moment began."""
        return period_start(self.period, moment)


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a budget's money in its current period."""

    period_start: datetime
    spent_nusd: int
    reserved_nusd: int
    """Leased to processes for calls under way and the next ones; leases of dead ones until they are settled."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """So much of a budget is spent in a period, and nobody has been told yet."""

    tenant_id: UUID
    budget_id: UUID
    period_start: datetime
    percent: int
    spent_nusd: int
    amount_nusd: int
    created_at: datetime
    attempts: int
    scope: Scope
    period: Period
    webhook_url: str | None


def period_start(period: Period, moment: datetime) -> datetime:
    """`moment` in UTC."""
    match period:
        case "day":
            return moment.replace(hour=0, minute=0, second=0, microsecond=0)
        case "month":
            return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        case "total":
            return EVER
    assert_never(period)
