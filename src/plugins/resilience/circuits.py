"""All breakers of this process, by name: what they tell is counted, logged, and shown to operators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import get_args

from plugins.contract.breakers import BreakerState, BreakerStatus, Forced
from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Meter
from plugins.resilience.breaker import Breaker, BreakerPolicy, Cause, Change

logger = logging.getLogger("resilience")

STATES: tuple[BreakerState, ...] = get_args(BreakerState)
_WHY: dict[Cause, str] = {
    "outcome": "by the outcome of calls",
    "background": "it answers again",
    "operator": "by an operator",
    "replica": "as another replica told",
}


class Circuits:
    """The `Breakers` port. Names must come from a bounded set: each has a breaker and metrics for good."""

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self.known: dict[str, Breaker] = {}
        """Those seen so far."""
        self.observe_with(NullMeter())

    def observe_with(self, meter: Meter) -> None:
        """Changes before this are not counted."""
        labels = ("dependency", "state")
        self._states = meter.gauge(
            "circuit_breaker_state",
            "1 for the state that the breaker is in, 0 for the others; from the first call on.",
            labels,
        )
        self._changes = meter.counter(
            "circuit_breaker_state_changes_total", "Breakers' transitions to a state.", labels
        )

    def of(self, name: str) -> Breaker:
        """Made where there is none yet."""
        breaker = self.known.get(name)
        if breaker is None:
            breaker = self.known[name] = Breaker(name, self._policy, self._clock, self._changed)
            self._show(name, breaker.state)
        return breaker

    def statuses(self) -> Mapping[str, BreakerStatus]:
        return {name: breaker.status for name, breaker in self.known.items()}

    def reset(self, name: str) -> None:
        self.of(name).reset()

    def force(self, name: str, state: Forced | None) -> None:
        self.of(name).force(state)

    def _changed(self, change: Change) -> None:
        self._changes.add(1, change.name, change.state)
        self._show(change.name, change.state)
        level = logging.WARNING if change.state == "open" else logging.INFO
        shown = change.state if change.forced is None else f"forced {change.forced}"
        logger.log(level, "breaker of %s is %s: %s", change.name, shown.replace("_", "-"), _WHY[change.cause])

    def _show(self, name: str, current: BreakerState) -> None:
        for state in STATES:
            self._states.set(float(state == current), name, state)
