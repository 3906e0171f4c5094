"""Calls that their callers gave up in vain: when that is a failure, and when it is old news."""

from __future__ import annotations

import asyncio

import pytest

from plugins.contract.errors import RetryableError
from plugins.resilience.breaker import Breaker, BreakerPolicy
from unit.plugins.harness import FakeClock

pytestmark = pytest.mark.requirement("RES-1")

THRESHOLD = 3
POLICY = BreakerPolicy(failure_threshold=THRESHOLD, reset_timeout_s=60, monitoring_period_s=30)


class Calls:
    """A breaker, its clock, and calls that are given up or answered."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.breaker = Breaker("a", POLICY, self.clock, lambda _: None)

    def send(self) -> tuple[int, float]:
        """Returns: its term, and when it was sent."""
        return self.breaker.admit(), self.clock()

    def give_up(self, call: tuple[int, float]) -> None:
        self.breaker.unanswered(since_s=call[1])
        self.breaker.settle(call[0], asyncio.CancelledError())

    def answer(self, call: tuple[int, float]) -> None:
        self.breaker.settle(call[0])

    def open(self) -> None:
        calls = [self.send() for _ in range(THRESHOLD)]
        for call in calls:
            self.give_up(call)


def test_as_many_as_of_other_failures_open() -> None:
    calls = Calls()
    calls.open()
    assert calls.breaker.state == "open"


def test_who_answered_since_is_well() -> None:
    """Slow for some, and there for others."""
    calls = Calls()
    waiting = [calls.send() for _ in range(THRESHOLD)]
    calls.clock.now_s += 1
    calls.answer(calls.send())
    for call in waiting:
        calls.give_up(call)
    assert (calls.breaker.state, calls.breaker.status.n_failures) == ("closed", 0)


def test_a_probe_that_is_given_up_opens_again() -> None:
    """Else each caller would be the next probe, and wait in vain."""
    calls = Calls()
    calls.open()
    calls.clock.now_s += POLICY.reset_timeout_s
    calls.give_up(calls.send())
    assert calls.breaker.state == "open"


def test_an_old_probe_that_is_given_up_is_old_news() -> None:
    """Another one is under way, and it is its answer that counts."""
    calls = Calls()
    calls.open()
    calls.clock.now_s += POLICY.reset_timeout_s
    first = calls.send()
    calls.clock.now_s += POLICY.reset_timeout_s
    second = calls.send()
    calls.clock.now_s += 1
    calls.give_up(first)
    assert calls.breaker.state == "half_open"
    calls.answer(second)
    assert calls.breaker.state == "closed"


@pytest.mark.parametrize("forced", ["open", "closed"])
def test_while_an_operator_has_the_say_nothing_counts(forced: str) -> None:
    """Nor once it is free again, of what was sent before."""
    calls = Calls()
    sent = [calls.send() for _ in range(THRESHOLD)]
    calls.clock.now_s += 1
    calls.breaker.force("open" if forced == "open" else "closed")
    for call in sent:
        calls.give_up(call)
    calls.breaker.force(None)
    assert (calls.breaker.state, calls.breaker.status.n_failures) == ("closed", 0)


def test_it_is_a_failure_of_the_dependencys() -> None:
    """One row with all others, which an answer ends."""
    calls = Calls()
    calls.breaker.settle(calls.breaker.admit(), RetryableError("down"))
    calls.give_up(calls.send())
    assert calls.breaker.status.n_failures == 2
    calls.answer(calls.send())
    assert calls.breaker.status.n_failures == 0
