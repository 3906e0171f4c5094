"""The words of this room: each call has an *intent* before it is sent and one *entry* once it is over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

Outcome = Literal["ok", "error", "cancelled", "cached", "lost"]
"""`lost`: the process died between the intent and the result."""

MAX_NUMBER = 2**53
"""Counts beyond this are a vendor's mistake: they must neither stop the journal nor wrap around in the database."""


class Intent(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="i", gc=False):
    """A call that is about to be sent. `id` is a UUIDv7: its time is the call's."""

    id: UUID
    tenant_id: UUID
    key_id: UUID | None
    user_id: UUID | None
    model: str
    """The alias that the client asked for."""
    endpoint: str
    estimate_nusd: int | None
    """What it may cost, should nobody ever hear how it ended. None: no price is known."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="r", gc=False):
    """One call that is over: the ledger's row."""

    id: UUID
    tenant_id: UUID
    key_id: UUID | None
    user_id: UUID | None
    model: str
    endpoint: str
    outcome: Outcome
    error: str | None = None
    """The error's code."""
    target: str | None = None
    """None: no target was asked."""
    attempts: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimate: bool = False
    """Tokens or cost were estimated by us."""
    cost_nusd: int | None = None
    """None: no price is known."""
    latency_ms: float | None = None
    first_token_ms: float | None = None


Record = Intent | LedgerEntry


def time_of(call_id: UUID) -> datetime:
    """Of a UUIDv7, to the millisecond."""
    return datetime.fromtimestamp((call_id.int >> 80) / 1000, UTC)


def entry_of(intent: Intent, **happened: Any) -> LedgerEntry:
    """The intent's call, with how it ended."""
    return LedgerEntry(
        id=intent.id,
        tenant_id=intent.tenant_id,
        key_id=intent.key_id,
        user_id=intent.user_id,
        model=intent.model,
        endpoint=intent.endpoint,
        **happened,
    )


def lost(intent: Intent) -> LedgerEntry:
    """What is entered of a call whose end nobody saw."""
    return entry_of(intent, outcome="lost", is_estimate=True, cost_nusd=intent.estimate_nusd)
