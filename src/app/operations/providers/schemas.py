"""Providers on the wire."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.ids import encode_id
from app.llm.model import TransportName
from app.llm.outcomes import LastError
from app.llm.traffic import Quantiles
from app.operations.providers.model import Provider
from plugins.contract.breakers import Forced


class BreakerPut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`open`: never called; `closed`: always, whatever happens; null: by its outcomes again."""

    forced: Forced | None


PUT_EXAMPLES = {
    "spare it": {"forced": "open"},
    "call it whatever happens": {"forced": "closed"},
    "by its outcomes again": {"forced": None},
}


class BreakerOut(msgspec.Struct, frozen=True, kw_only=True):
    """`off`: the resilience plugin is. `failures` in a row; `retry_after_s` until the next call is let through."""

    state: Literal["closed", "open", "half_open", "off"]
    forced: Forced | None
    failures: int
    retry_after_s: float | None


class LastMinute(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that ended. `failed` by the target's own fault: not wrong requests, nor what callers gave up."""

    calls: int
    failed: int
    error_rate: float | None
    """0 to 1; null without calls."""


class ProviderOut(msgspec.Struct, frozen=True, kw_only=True):
    """One target, as it fares at the replica that answers. Of a wildcard's targets all that it stands for.

    `first_token_ms` of streams and `total_ms` of all answers: of the last hundred. `max_calls` null: the default.
    """

    id: str
    target: str
    model: str
    """The alias."""
    transport: TransportName
    breaker: BreakerOut
    last_minute: LastMinute
    running: int
    max_calls: int | None
    first_token_ms: Quantiles | None
    total_ms: Quantiles | None
    last_error: LastError | None

    @classmethod
    def of(cls, provider: Provider) -> ProviderOut:
        fare, breaker = provider.fare, provider.breaker
        return cls(
            id=encode_id("prov", provider.id),
            target=provider.target.known_as,
            model=provider.target.alias,
            transport=provider.target.transport,
            breaker=BreakerOut(state="off", forced=None, failures=0, retry_after_s=None)
            if breaker is None
            else BreakerOut(
                state=breaker.state,
                forced=breaker.forced,
                failures=breaker.n_failures,
                retry_after_s=None if breaker.retry_after_s is None else round(breaker.retry_after_s, 1),
            ),
            last_minute=LastMinute(
                calls=fare.n_calls,
                failed=fare.n_failed,
                error_rate=round(fare.n_failed / fare.n_calls, 4) if fare.n_calls else None,
            ),
            running=fare.n_running,
            max_calls=provider.target.max_calls,
            first_token_ms=fare.first_token_ms,
            total_ms=fare.total_ms,
            last_error=provider.last_error,
        )
