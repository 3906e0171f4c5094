"""Asks every dependency in the background, each by itself; whoever wants to know reads what was said last.

A probe of Kubernetes therefore never waits for a dependency, a thousand a second cost no query, and one dependency that
hangs delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Sequence

from app.operations.health.model import LEVELS, CheckResult, Health, Status, TargetCounts, overall
from plugins.contract.errors import WattosError
from plugins.contract.health import HealthCheck
from plugins.contract.nulls import NullGuard
from plugins.contract.ports import Guard, Meter

JITTER = 0.1
"""Replicas that started together do not ask together for ever."""

RECOVERY_INTERVAL_S = 1.0
"""What is away is asked more often: its return should be seen as soon as its loss."""

STALE_MARGIN_S = 2.0
"""A result that is this much older than interval and time-out allow counts for nothing: who asks is stuck."""

OTHER_BREAKERS = frozenset({"webhook"})
"""Of dependencies that are not ours to ask: each receiver is a tenant's."""

DURATION_BUCKETS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
"""From a state in memory to the longest time-out."""


class _Watched:
    """One check, and what its dependency said last."""

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self.message = "not asked yet"
        self.response_time_ms = 0.0
        self.asked_s: float | None = None
        self.failing_since_s: float | None = None
        self.was_well = False

    def said(self, message: str, response_time_ms: float, now_s: float) -> None:
        self.message, self.response_time_ms, self.asked_s = message, response_time_ms, now_s
        if not message:
            self.failing_since_s, self.was_well = None, True
        elif self.failing_since_s is None:
            self.failing_since_s = now_s

    def result(self, now_s: float, stale_after_s: float) -> CheckResult:
        age_s = 0.0 if self.asked_s is None else now_s - self.asked_s
        message = f"not asked for {age_s:.0f} s" if age_s > stale_after_s else self.message
        return CheckResult(
            name=self.check.name,
            status=self._status(message, now_s),
            critical=self.check.critical,
            response_time_ms=round(self.response_time_ms, 2),
            age_s=round(age_s, 1),
            message=message,
            meanwhile=self.check.meanwhile if message else "",
        )

    def _status(self, message: str, now_s: float) -> Status:
        if not message:
            return "healthy"
        since_s = self.failing_since_s
        if since_s is not None and self.was_well and now_s - since_s < self.check.covered_for_s:
            return "degraded"
        return "unhealthy"


class HealthService:
    """The checks of one process. `interval_s` between two probes of one dependency, `timeout_s` for one probe."""

    def __init__(
        self,
        checks: Sequence[HealthCheck],
        *,
        version: str,
        meter: Meter,
        interval_s: float,
        timeout_s: float,
        guard: Guard | None = None,
    ) -> None:
        """`guard`: hears which dependencies answer again."""
        self._guard = guard or NullGuard()
        self._watched = [_Watched(check) for check in checks]
        self._version = version
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._started_s = time.monotonic()
        self._draining = False
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._duration = meter.histogram(
            "health_check_duration_ms", "Time that one probe took.", ("check",), buckets=DURATION_BUCKETS_MS
        )
        scale = "2 healthy, 1 degraded, 0 unhealthy."
        self._status = meter.gauge("health_status", f"The whole: {scale} While draining, 0.")
        self._check_status = meter.gauge("health_check_status", f"Each dependency: {scale}", ("check",))
        meter.sample(self._show)  # what is covered for a while, or stale, changes without being asked

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Every dependency has been asked once when this opens; they are asked on until it closes."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.gather(*(self._ask(watched) for watched in self._watched))
            tasks += [asyncio.create_task(self._watch(w), name=f"health: {w.check.name}") for w in self._watched]
            yield
        finally:
            for task in (*tasks, *self._probing.values()):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._probing:
                await asyncio.wait(self._probing.values(), timeout=self._timeout_s)

    def drain(self) -> None:
        """From now on this process is not ready: it will stop."""
        self._draining = True
        self._status.set(0)

    def report(self, *, for_operator: bool = True) -> Health:
        """From memory: no dependency is asked."""
        now_s = time.monotonic()
        stale_after_s = self._interval_s * (1 + JITTER) + self._timeout_s + STALE_MARGIN_S
        results = [(w.check, w.result(now_s, stale_after_s)) for w in self._watched]
        targets = [result for check, result in results if check.is_target]
        shown = tuple(result for check, result in results if for_operator or not check.is_target)
        states = self._guard.states()
        breakers = {w.check.breaker for w in self._watched if w.check.breaker} | OTHER_BREAKERS
        return Health(
            status=overall([result for _, result in results]),
            version=self._version,
            uptime_s=round(now_s - self._started_s, 1),
            checks=shown,
            degraded=tuple(result.name for result in shown if result.status != "healthy"),
            breakers={name: states[name] for name in sorted(breakers & states.keys())},
            targets=TargetCounts(total=len(targets), unhealthy=sum(r.status != "healthy" for r in targets)),
            draining=self._draining,
        )

    async def _watch(self, watched: _Watched) -> None:
        while True:
            interval_s = min(self._interval_s, RECOVERY_INTERVAL_S) if watched.message else self._interval_s
            await asyncio.sleep(interval_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  # no secret
            await self._ask(watched)

    async def _ask(self, watched: _Watched) -> None:
        name, began_s = watched.check.name, time.monotonic()
        # A probe that hangs may take long to be cancelled, too (psycopg: 10 s). It is left behind, and until it has
        # ended no other is sent: one connection at most waits for a frozen server.
        left_behind = self._probing.get(name)
        probing = left_behind or asyncio.create_task(_probe(watched.check), name=f"health probe: {name}")
        self._probing[name] = probing
        await asyncio.wait([probing], timeout=self._timeout_s)
        message = f"no answer within {self._timeout_s:g} s"
        if probing.done():
            del self._probing[name]
            message = _said(probing) if left_behind is None else "not available"
        else:
            probing.cancel()
        now_s = time.monotonic()
        watched.said(message, (now_s - began_s) * 1000, now_s)
        if watched.check.breaker and not message:
            self._guard.recovered(watched.check.breaker)
        self._duration.observe((now_s - began_s) * 1000, name)
        await self._show()

    async def _show(self) -> None:
        health = self.report()
        self._status.set(0 if self._draining else LEVELS[health.status])
        for result in health.checks:
            self._check_status.set(LEVELS[result.status], result.name)


async def _probe(check: HealthCheck) -> None:
    await check.probe()


def _said(probing: asyncio.Task[None]) -> str:
    """Empty when all is well. Of an error that is not ours the text is not safe to show."""
    exc = asyncio.CancelledError() if probing.cancelled() else probing.exception()
    if exc is None:
        return ""
    return exc.message if isinstance(exc, WattosError) else "not available"
