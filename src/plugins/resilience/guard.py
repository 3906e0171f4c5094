"""The `Guard` port: a breaker a dependency, made on first use, and retries around it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, TypeVar, get_args

from plugins.contract.errors import CircuitOpen
from plugins.contract.nulls import NullInstrument, NullMeter
from plugins.contract.ports import Counter, Meter
from plugins.resilience.breaker import Breaker, BreakerPolicy, State
from plugins.resilience.retry import Retry, RetryPolicy

T = TypeVar("T")

STATES: tuple[State, ...] = get_args(State)
_NOTHING: Counter = NullInstrument()


class ResilientGuard:
    """Names must come from a bounded set (the configured targets): each has a breaker and metrics for good."""

    def __init__(
        self,
        breaker: BreakerPolicy,
        retry: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._policy = breaker
        self._clock = clock
        self._retry = Retry(retry, sleep=sleep, random=uniform)
        self._breakers: dict[str, Breaker] = {}
        self.observe_with(NullMeter())

    def observe_with(self, meter: Meter) -> None:
        """The guard is given before the meter is known; calls before this are not counted."""
        labels = ("dependency", "state")
        self._states = meter.gauge(
            "circuit_breaker_state",
            "1 for the state that the breaker is in, 0 for the others; from the first call on.",
            labels,
        )
        self._changes = meter.counter(
            "circuit_breaker_state_changes_total", "Breakers' transitions to a state.", labels
        )
        self._refusals = meter.counter(
            "circuit_breaker_refusals_total", "Calls that an open breaker did not let through.", ("dependency",)
        )
        labels = ("dependency", "outcome")
        self._attempts = meter.counter("retry_attempts_total", "Attempts after the first, by how they ended.", labels)
        self._retried = meter.counter(
            "retry_outcomes_total", "Calls that were tried more than once, by how they ended.", labels
        )

    async def call(
        self, name: str, attempt: Callable[[], Awaitable[T]], *, retry: bool, deadline_s: float | None = None
    ) -> T:
        breaker = self._breakers.get(name) or self._new_breaker(name)
        if not retry:
            return await self._counting_refusals(name, breaker, attempt)
        n_attempts = 0

        async def once() -> T:
            nonlocal n_attempts
            n_attempts += 1
            counts = self._attempts if n_attempts > 1 else _NOTHING
            with _Counted(counts, name, failed="failed", succeeded="succeeded"):
                return await self._counting_refusals(name, breaker, attempt)

        with _Counted(_NOTHING, name, failed="gave_up", succeeded="recovered") as whole:
            try:
                return await self._retry.run(once, worth_it=lambda: breaker.state != "open")
            finally:
                if n_attempts > 1:
                    whole.counter = self._retried

    def states(self) -> Mapping[str, str]:
        return {name: breaker.state for name, breaker in self._breakers.items()}

    def recovered(self, name: str) -> None:
        raise NotImplementedError

    async def _counting_refusals(self, name: str, breaker: Breaker, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            return await breaker.run(attempt)
        except CircuitOpen:
            self._refusals.add(1, name)
            raise

    def _new_breaker(self, name: str) -> Breaker:
        breaker = self._breakers[name] = Breaker(name, self._policy, self._clock, self._changed)
        self._show(name, breaker.state)
        return breaker

    def _changed(self, name: str, state: State) -> None:
        self._changes.add(1, name, state)
        self._show(name, state)

    def _show(self, name: str, current: State) -> None:
        for state in STATES:
            self._states.set(float(state == current), name, state)


class _Counted:
    """Counts what is inside it by how it ends."""

    __slots__ = ("_failed", "_name", "_succeeded", "counter")

    def __init__(self, counter: Counter, name: str, *, failed: str, succeeded: str) -> None:
        self.counter = counter
        self._name, self._failed, self._succeeded = name, failed, succeeded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            outcome = self._succeeded
        else:
            outcome = "cancelled" if issubclass(kind, asyncio.CancelledError) else self._failed
        self.counter.add(1, self._name, outcome)
