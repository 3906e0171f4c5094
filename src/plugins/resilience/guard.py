"""The `Guard` port: a breaker a dependency, made on first use, and retries around it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from plugins.contract.errors import CircuitOpen
from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Meter
from plugins.resilience.breaker import Breaker, BreakerPolicy, State
from plugins.resilience.retry import Retry, RetryPolicy

T = TypeVar("T")


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
        self._changes = meter.counter("circuit_breaker_state_changes_total", "Transitions to a state.", labels)
        self._refusals = meter.counter("circuit_breaker_refusals_total", "Calls not sent.", ("dependency",))
        self._retries = meter.counter("retry_attempts_total", "Attempts after the first.", ("dependency", "outcome"))

    async def call(self, name: str, attempt: Callable[[], Awaitable[T]], *, retry: bool) -> T:
        breaker = self._breakers.get(name) or self._new_breaker(name)
        if not retry:
            return await self._counting_refusals(name, breaker, attempt)
        n_attempts = 0

        async def once() -> T:
            nonlocal n_attempts
            n_attempts += 1
            if n_attempts == 1:
                return await self._counting_refusals(name, breaker, attempt)
            outcome = "failed"
            try:
                result = await self._counting_refusals(name, breaker, attempt)
                outcome = "succeeded"
            finally:
                self._retries.add(1, name, outcome)
            return result

        return await self._retry.run(once, worth_it=lambda: breaker.state != "open")

    def states(self) -> Mapping[str, str]:
        return {name: breaker.state for name, breaker in self._breakers.items()}

    async def _counting_refusals(self, name: str, breaker: Breaker, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            return await breaker.run(attempt)
        except CircuitOpen:
            self._refusals.add(1, name)
            raise

    def _new_breaker(self, name: str) -> Breaker:
        breaker = self._breakers[name] = Breaker(name, self._policy, self._clock, self._changed)
        return breaker

    def _changed(self, name: str, state: State) -> None:
        self._changes.add(1, name, state)
