"""How a circuit breaker stands: what operators are shown, and replicas tell each other."""

from __future__ import annotations

from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half_open"]
"""Calls pass; none passes; one at a time does, to find out."""

Forced = Literal["closed", "open"]
"""By an operator: always or never called, whatever happens."""


class BreakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One dependency's breaker, in this process."""

    state: BreakerState
    forced: Forced | None = None
    n_failures: int = 0
    """In a row, within the monitoring period."""
    retry_after_s: float | None = None
    """Until the next call is let through, where none is."""
