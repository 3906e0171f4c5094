"""Background checks: what is said of each dependency, and of the whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from app.operations.health.service import HealthService
from plugins.contract.errors import RetryableError, WattosError
from plugins.contract.health import HealthCheck
from plugins.contract.nulls import NullMeter
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.plugins.harness import RecordingMeter, eventually


class Dependency:
    """Well, until told otherwise. `n_asked` counts probes that were begun."""

    def __init__(self, name: str = "db", *, critical: bool = True, covered_for_s: float = 0.0) -> None:
        self.check = HealthCheck(name=name, critical=critical, probe=self.probe, covered_for_s=covered_for_s)
        self.n_asked = 0
        self.behave: Callable[[], Awaitable[None]] = self.well

    async def probe(self) -> None:
        self.n_asked += 1
        await self.behave()

    async def well(self) -> None: ...

    async def hang(self) -> None:
        await asyncio.Event().wait()

    async def hang_on(self) -> None:
        """A driver that takes its time to give up."""
        while True:
            try:
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                await asyncio.sleep(0.3)
                raise

    async def refuse(self) -> None:
        raise WattosError("the server is away")

    async def break_down(self) -> None:
        raise RuntimeError("password=hunter2 host=10.0.0.7")


def service(*dependencies: Dependency, interval_s: float = 0.02, timeout_s: float = 0.1) -> HealthService:
    checks = [dependency.check for dependency in dependencies]
    return HealthService(checks, version="1", meter=NullMeter(), interval_s=interval_s, timeout_s=timeout_s)


@pytest.mark.requirement("OBS-5")
async def test_all_is_known_before_anyone_asks() -> None:
    """The first results are there when watching begins, each with its response time."""
    health = service(Dependency("db"), Dependency("queue", critical=False))
    assert health.report().status == "unhealthy"
    async with health.watching():
        report = health.report()
    assert report.status == "healthy"
    assert report.is_ready
    assert [check.name for check in report.checks] == ["db", "queue"]
    assert all(check.response_time_ms >= 0 for check in report.checks)


@pytest.mark.requirement("OBS-5")
@pytest.mark.parametrize(("critical", "status", "is_ready"), [(True, "unhealthy", False), (False, "degraded", True)])
async def test_the_whole_follows_from_what_is_critical(critical: bool, status: str, is_ready: bool) -> None:
    """A critical dependency that is away: not ready. Any other: degraded, and requests go on. Both recover."""
    dependency = Dependency(critical=critical)
    health = service(dependency, Dependency("other"))
    async with health.watching():
        dependency.behave = dependency.refuse
        await eventually(lambda: health.report().status == status)
        assert health.report().is_ready is is_ready
        assert health.report().checks[0].message == "the server is away"
        dependency.behave = dependency.well
        await eventually(lambda: health.report().status == "healthy")


@pytest.mark.requirement("OBS-6")
async def test_a_covered_dependency_is_degraded_first_and_unhealthy_later() -> None:
    """While others do its duty requests can be served; a dependency that was never there is covered by nobody."""
    dependency, never = Dependency(covered_for_s=0.3), Dependency("never", covered_for_s=60)
    never.behave = never.refuse
    health, other = service(dependency), service(never)
    async with health.watching(), other.watching():
        dependency.behave = dependency.refuse
        await eventually(lambda: health.report().status == "degraded")
        assert health.report().is_ready
        await eventually(lambda: health.report().status == "unhealthy")
        assert other.report().status == "unhealthy"


@pytest.mark.parametrize("how", ["hang", "hang_on"])
async def test_a_dependency_that_hangs_delays_nobody(how: str) -> None:
    """Its own probe times out, also when it cannot even be cancelled; the others are asked on, reports come at once."""
    stuck, well = Dependency("stuck"), Dependency("well")
    health = service(stuck, well)
    async with health.watching():
        stuck.behave = getattr(stuck, how)
        await eventually(lambda: health.report().checks[0].message == "no answer within 0.1 s")
        n_asked = well.n_asked
        await eventually(lambda: well.n_asked > n_asked + 3)
        began_s = time.perf_counter()
        for _ in range(1000):
            health.report()
        assert time.perf_counter() - began_s < 1
        stuck.behave = stuck.well
        await eventually(lambda: health.report().status == "healthy")


async def test_asking_for_the_report_asks_no_dependency() -> None:
    """A thousand probes a second cost no query."""
    dependency = Dependency()
    health = service(dependency, interval_s=60)
    async with health.watching():
        for _ in range(1000):
            health.report()
    assert dependency.n_asked == 1


async def test_the_text_of_an_unknown_error_is_never_shown() -> None:
    """It may hold addresses and passwords."""
    dependency = Dependency()
    dependency.behave = dependency.break_down
    health = service(dependency)
    async with health.watching():
        assert health.report().checks[0].message == "not available"


async def test_an_old_result_counts_for_nothing() -> None:
    """When nobody asks any more, nobody knows: not ready."""
    health = service(Dependency(), interval_s=0.02, timeout_s=0.02)
    async with health.watching():
        assert health.report().is_ready
    await eventually(lambda: not health.report().is_ready)
    assert health.report().checks[0].message.startswith("not asked for")


async def test_draining_is_not_ready_and_stays_alive() -> None:
    """From the signal on: no new requests, whatever the dependencies say."""
    health = service(Dependency())
    async with health.watching():
        health.drain()
        assert health.report().status == "healthy"
        assert not health.report().is_ready


@pytest.mark.requirement("OBS-5")
async def test_health_is_a_metric() -> None:
    """`health_status` for the whole, `health_check_status` and `health_check_duration_ms` for each."""
    meter = RecordingMeter()
    dependency = Dependency(critical=False)
    health = HealthService([dependency.check], version="1", meter=meter, interval_s=0.02, timeout_s=1)
    async with health.watching():
        assert meter.total["health_status",] == 2
        dependency.behave = dependency.refuse
        await eventually(lambda: meter.total["health_status",] == 1)
        assert meter.total["health_check_status", "db"] == 0
        assert meter.total["health_check_duration_ms", "db"] >= 2
        health.drain()
        assert meter.total["health_status",] == 0


async def test_the_metric_follows_what_changes_without_being_asked() -> None:
    """When nobody asks any more, or a cover is over, whoever reads the metrics sees it."""
    meter = RecordingMeter()
    health = HealthService([Dependency().check], version="1", meter=meter, interval_s=0.02, timeout_s=0.02)
    async with health.watching():
        assert meter.total["health_status",] == 2
    await eventually(lambda: not health.report().is_ready)
    assert meter.total["health_status",] == 2
    for source in meter.sources:
        await source()
    assert (meter.total["health_status",], meter.total["health_check_status", "db"]) == (0, 0)


@pytest.mark.requirement("RES-1")
async def test_whoever_answers_again_has_its_breaker_closed() -> None:
    """No call need find out, nor wait for the breaker's own time; who is away stays spared, with what stands in."""
    settings = ResilienceSettings(circuit_breaker_failure_threshold=1)
    guard = ResilientGuard(settings.breaker, settings.retry)

    async def fail() -> None:
        raise RetryableError("away")

    for name in ("db", "other", "a target"):
        with pytest.raises(RetryableError):
            await guard.call(name, fail, retry=False)
    db, other = Dependency("db"), Dependency("other", critical=False)
    other.behave = other.refuse
    checks = [
        msgspec.structs.replace(db.check, breaker="db", meanwhile="the journal"),
        msgspec.structs.replace(other.check, breaker="other", meanwhile="something else"),
    ]
    health = HealthService(checks, version="1", meter=NullMeter(), interval_s=0.02, timeout_s=0.1, guard=guard)
    async with health.watching():
        assert guard.states() == {"db": "closed", "other": "open", "a target": "open"}
        report = health.report()
        assert report.degraded == ("other",)
        assert report.breakers == {"db": "closed", "other": "open"}
        assert [check.meanwhile for check in report.checks] == ["", "something else"]
        other.behave = other.well
        await eventually(lambda: guard.states()["other"] == "closed")
    assert health.report().degraded == ()
