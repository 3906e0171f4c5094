"""How to ask whether something that this process depends on is well: contributed by the app and by plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`probe` raises when its dependency is not well. A `WattosError`'s message is shown, and must be safe to show."""

    name: str
    """One of a bounded set: it is a metric's label."""
    critical: bool
    """Whether no request can be served without it: then this process is not ready."""
    probe: Callable[[], Awaitable[None]]
    covered_for_s: float = 0.0
    """How long others do a critical dependency's duty, from its first failed check on: degraded until then."""
    breaker: str = ""
    """Of what the probe asks, in the guard: an answer closes it, as calls need not wait then."""
    meanwhile: str = ""
    """What stands in while it is away, in words that anyone may read."""
    is_target: bool = False
    """A model at a vendor, whose name is the operator's own: outsiders are told only how many there are."""
