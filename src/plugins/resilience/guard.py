"""The `Guard` port: a breaker a dependency, made on first use, and retries around it, as many as its budget allows."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Self, TypeVar

from plugins.contract.errors import CircuitOpen, RetryableError
from plugins.contract.nulls import NullInstrument, NullMeter
from plugins.contract.ports import Counter, Meter
from plugins.resilience.breaker import Breaker, BreakerPolicy
from plugins.resilience.budget import RetryBudget
from plugins.resilience.circuits import Circuits
from plugins.resilience.retry import Retry, RetryPolicy

T = TypeVar("T")

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
        """`clock`: the event loop's seconds, which are the monotonic ones."""
        self.circuits = Circuits(breaker, clock)
        self._clock = clock
        self._retry = Retry(retry, clock=clock, sleep=sleep, random=uniform)
        self._budget_ratio = retry.budget_ratio
        self._budgets: dict[str, RetryBudget] = {}
        self.observe_with(NullMeter())

    def observe_with(self, meter: Meter) -> None:
        """The guard is given before the meter is known; calls before this are not counted."""
        self.circuits.observe_with(meter)
        self._refusals = meter.counter(
            "circuit_breaker_refusals_total", "Calls that an open breaker did not let through.", ("dependency",)
        )
        labels = ("dependency", "outcome")
        self._attempts = meter.counter("retry_attempts_total", "Attempts after the first, by how they ended.", labels)
        self._retried = meter.counter(
            "retry_outcomes_total", "Calls that were tried more than once, by how they ended.", labels
        )
        self._forgone = meter.counter(
            "retry_refusals_total",
            "Retries that were not made: their wait would have passed the call's deadline (deadline), or the"
            " dependency had its share of retries already (budget).",
            ("dependency", "reason"),
        )

    def call(
        self,
        name: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        retry: bool,
        deadline_s: float | None = None,
        is_whole: bool = True,
    ) -> Coroutine[Any, Any, T]:
        breaker = self.circuits.known.get(name) or self.circuits.of(name)
        budget = self._budgets.get(name) or self._new_budget(name)
        if retry:
            return self._retried_call(breaker, budget, attempt, deadline_s, is_whole)
        # No coroutine more than needed: this is the way of most calls.
        return self._sent(breaker, budget, attempt, is_whole)

    async def _retried_call(
        self,
        breaker: Breaker,
        budget: RetryBudget,
        attempt: Callable[[], Awaitable[T]],
        deadline_s: float | None,
        is_whole: bool,
    ) -> T:
        try:
            return await self._sent(breaker, budget, attempt, is_whole)
        except RetryableError as exc:
            if not self._retry.may_retry(exc) or breaker.state == "open":
                raise
            first = exc
        name, has_tried_again = breaker.name, False

        async def again() -> T:
            nonlocal has_tried_again
            has_tried_again = True
            with _Counted(self._attempts, name, failed="failed", succeeded="succeeded"):
                return await self._sent(breaker, None, attempt, is_whole)

        with _Counted(_NOTHING, name, failed="gave_up", succeeded="recovered") as whole:
            try:
                return await self._retry.after(
                    first,
                    again,
                    worth_it=lambda: breaker.state != "open",
                    granted=budget.take,
                    deadline_s=deadline_s,
                    forgone=lambda reason: self._forgone.add(1, name, reason),
                )
            finally:
                if has_tried_again:
                    whole.counter = self._retried

    def states(self) -> Mapping[str, str]:
        return {name: breaker.state for name, breaker in self.circuits.known.items()}

    def recovered(self, name: str) -> None:
        breaker = self.circuits.known.get(name)
        if breaker is not None:
            breaker.recovered()

    def ended(self, name: str, error: BaseException | None, *, since_s: float) -> None:
        breaker = self.circuits.known.get(name)
        if breaker is not None:
            breaker.ended(error, since_s=since_s)

    def unanswered(self, name: str, *, since_s: float) -> None:
        breaker = self.circuits.known.get(name)
        if breaker is not None:
            breaker.unanswered(since_s=since_s)

    def admit(self, name: str) -> tuple[Breaker, int]:
        """For what is no function to call: its breaker, and the term to settle it with. Raises: CircuitOpen."""
        breaker = self.circuits.of(name)
        budget = self._budgets.get(name) or self._new_budget(name)
        try:
            term = breaker.admit()
        except CircuitOpen:
            self._refusals.add(1, name)
            raise
        budget.called()
        return breaker, term

    async def _sent(
        self,
        breaker: Breaker,
        budget: RetryBudget | None,
        attempt: Callable[[], Awaitable[T]],
        is_whole: bool,
    ) -> T:
        """`budget`: of a first attempt, which counts as a call. What is refused does not."""
        try:
            term = breaker.admit()
        except CircuitOpen:
            self._refusals.add(1, breaker.name)
            raise
        if budget is not None:
            budget.called()
        try:
            result = await attempt()
        except BaseException as exc:
            breaker.settle(term, exc)
            raise
        if is_whole:
            breaker.settle(term)
        else:
            breaker.begun(term)
        return result

    def _new_budget(self, name: str) -> RetryBudget:
        budget = self._budgets[name] = RetryBudget(self._budget_ratio, self._clock)
        return budget


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
