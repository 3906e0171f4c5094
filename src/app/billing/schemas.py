"""Usage on the wire."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from app.billing.store import Grouping
from app.billing.tables import CallRow
from app.ids import Prefix, encode_id


class UsageOut(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `outcome`: ok, error, cancelled, cached or lost. `cost_nusd` is null where no price is known; with
    `is_estimate`, tokens or cost were estimated here."""

    id: str
    time: datetime
    tenant_id: str
    user_id: str | None
    key_id: str | None
    model: str
    endpoint: str
    target: str | None
    attempts: int
    outcome: str
    error: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    is_estimate: bool
    cost_nusd: int | None
    latency_ms: float | None
    first_token_ms: float | None

    @classmethod
    def of(cls, row: CallRow) -> UsageOut:
        return cls(
            id=encode_id("call", row.id),
            time=row.time,
            tenant_id=encode_id("ten", row.tenant_id),
            user_id=encode_id("user", row.user_id) if row.user_id else None,
            key_id=encode_id("key", row.key_id) if row.key_id else None,
            model=row.model,
            endpoint=row.endpoint,
            target=row.target,
            attempts=row.attempts,
            outcome=row.outcome,
            error=row.error,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cached_tokens=row.cached_tokens,
            cache_write_tokens=row.cache_write_tokens,
            reasoning_tokens=row.reasoning_tokens,
            is_estimate=row.is_estimate,
            cost_nusd=row.cost_nusd,
            latency_ms=row.latency_ms,
            first_token_ms=row.first_token_ms,
        )


class UsageGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What calls add up to. Of the first fields those are set that were grouped by. `unpriced` calls are missing in
    `cost_nusd`; `errors` counts all that were neither answered nor cached."""

    tenant_id: str | None = None
    user_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    target: str | None = None
    day: date | None = None
    calls: int
    errors: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cost_nusd: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> UsageGroup:
        return cls(
            tenant_id=_id("ten", row.get("by_tenant")),
            user_id=_id("user", row.get("by_user")),
            key_id=_id("key", row.get("by_key")),
            model=row.get("by_model"),
            target=row.get("by_target") or None,
            day=row.get("by_day"),
            calls=int(row["calls"]),
            errors=int(row["errors"]),
            unpriced=int(row["unpriced"]),
            input_tokens=int(row["input_tokens"]),
            output_tokens=int(row["output_tokens"]),
            cost_nusd=int(row["cost_nusd"]),
        )


class UsageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Days are UTC, both included."""

    since: date
    until: date
    group_by: list[Grouping]
    data: list[UsageGroup]


def _id(prefix: Prefix, value: UUID | None) -> str | None:
    """None for the nil UUID too, which stands for nobody."""
    return encode_id(prefix, value) if value and value.int else None
