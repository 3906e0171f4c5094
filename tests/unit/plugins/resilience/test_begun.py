"""What only begins, as streams do: that it began must not hide that it never ends well."""

from __future__ import annotations

import pytest

from plugins.contract.errors import AuthenticationFailed, CircuitOpen, RetryableError
from plugins.resilience.breaker import Breaker, BreakerPolicy
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.plugins.harness import FakeClock

pytestmark = pytest.mark.requirement("RES-1")

THRESHOLD = 3
POLICY = BreakerPolicy(failure_threshold=THRESHOLD, reset_timeout_s=60, monitoring_period_s=30)
DOWN = RetryableError("down")


class Streams:
    """A breaker, its clock, and streams that end as told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.breaker = Breaker("a", POLICY, self.clock, lambda _: None)

    def begin(self) -> float:
        """Returns: since when it is open."""
        self.breaker.begun(self.breaker.admit())
        return self.clock()

    def run(self, exc: Exception | None = None) -> None:
        """From its beginning to its end."""
        since_s = self.begin()
        self.clock.now_s += 1
        self.breaker.ended(exc, since_s=since_s)

    def fail(self) -> None:
        """It does not even begin."""
        self.breaker.settle(self.breaker.admit(), DOWN)

    @property
    def n_failures(self) -> int:
        return self.breaker.status.n_failures


def test_who_breaks_every_stream_opens_at_the_threshold() -> None:
    """Each of them had begun well."""
    streams = Streams()
    for n in range(THRESHOLD):
        assert (streams.breaker.state, streams.n_failures) == ("closed", n)
        streams.run(DOWN)
    assert streams.breaker.state == "open"
    with pytest.raises(CircuitOpen):
        streams.begin()


def test_those_that_break_at_once_are_one_failure() -> None:
    """One of the target's machines went down with all its streams; what begins afterwards shows how it is."""
    streams = Streams()
    since_s = [streams.begin() for _ in range(50)]
    streams.clock.now_s += 1
    for one_s in since_s:
        streams.breaker.ended(DOWN, since_s=one_s)
    assert (streams.breaker.state, streams.n_failures) == ("closed", 1)
    streams.run(DOWN)
    streams.run(DOWN)
    assert streams.breaker.state == "open"


def test_what_breaks_after_an_opening_is_old_news() -> None:
    """Of streams that had begun before it."""
    streams = Streams()
    since_s = streams.begin()
    for _ in range(THRESHOLD):
        streams.run(DOWN)
    streams.clock.now_s += POLICY.reset_timeout_s
    streams.run()
    streams.breaker.ended(DOWN, since_s=since_s)
    assert (streams.breaker.state, streams.n_failures) == ("closed", 0)


def test_failures_to_begin_and_breaks_are_one_row() -> None:
    """A call fails either way; a beginning ends the row of those that did not begin, and of no others."""
    streams = Streams()
    streams.run(DOWN)
    streams.fail()
    assert streams.n_failures == 2
    streams.begin()
    assert streams.n_failures == 1
    streams.run(DOWN)
    assert streams.breaker.state == "closed"
    streams.fail()
    assert streams.breaker.state == "open"


def test_a_stream_that_ends_well_ends_the_row_of_breaks() -> None:
    """Not that of those that cannot begin: it began in better days."""
    streams = Streams()
    since_s = streams.begin()
    streams.run(DOWN)
    streams.fail()
    streams.breaker.ended(None, since_s=since_s)
    assert streams.n_failures == 1
    streams.run(DOWN)
    streams.run(DOWN)
    assert streams.breaker.state == "closed", "a beginning ended the row of those that did not begin"


def test_a_whole_answer_ends_either_row() -> None:
    """Only failures in a row open."""
    streams = Streams()
    for _ in range(THRESHOLD - 1):
        streams.run(DOWN)
    streams.breaker.settle(streams.breaker.admit())
    assert streams.n_failures == 0
    streams.run(DOWN)
    assert streams.breaker.state == "closed"


def test_breaks_older_than_the_monitoring_period_do_not_count() -> None:
    """As with all failures."""
    streams = Streams()
    for _ in range(2 * THRESHOLD):
        streams.run(DOWN)
        streams.clock.now_s += POLICY.monitoring_period_s / (THRESHOLD - 1)
    assert streams.breaker.state == "closed"


def test_a_probe_that_begins_closes_and_its_break_counts() -> None:
    """Nobody has to wait for the probe's last word."""
    streams = Streams()
    for _ in range(THRESHOLD):
        streams.fail()
    streams.clock.now_s += POLICY.reset_timeout_s
    since_s = streams.begin()
    assert (streams.breaker.state, streams.n_failures) == ("closed", 0)
    streams.breaker.ended(DOWN, since_s=since_s)
    assert streams.n_failures == 1


def test_what_is_not_the_dependencys_does_not_count() -> None:
    """Nor does anything while an operator has the say; what was begun before is then forgotten."""
    streams = Streams()
    since_s = streams.begin()
    streams.breaker.ended(AuthenticationFailed("no"), since_s=since_s)
    streams.breaker.ended(CircuitOpen("further in"), since_s=since_s)
    assert streams.n_failures == 0
    streams.clock.now_s += 1
    streams.breaker.force("closed")
    for _ in range(THRESHOLD):
        streams.run(DOWN)
    streams.clock.now_s += 1
    streams.breaker.force(None)
    streams.breaker.ended(DOWN, since_s=since_s)
    assert (streams.breaker.state, streams.n_failures) == ("closed", 0)


@pytest.mark.parametrize("retry", [True, False])
async def test_the_guard_tells_its_breaker(retry: bool) -> None:
    """By the name of the dependency."""
    settings, clock = ResilienceSettings(circuit_breaker_failure_threshold=THRESHOLD), FakeClock()
    guard = ResilientGuard(settings.breaker, settings.retry, clock=clock)

    async def attempt() -> str:
        return "stream"

    for _ in range(THRESHOLD):
        assert await guard.call("a", attempt, retry=retry, is_whole=False) == "stream"
        guard.ended("a", DOWN, since_s=clock())
    assert guard.states() == {"a": "open"}
