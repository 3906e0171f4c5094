"""What breaker and retry budget keep, whatever happens in whatever order. The clock is turned by hand."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plugins.contract.errors import AuthenticationFailed, CircuitOpen, RetryableError
from plugins.resilience.breaker import Breaker, BreakerPolicy, Change
from plugins.resilience.budget import MIN_RETRIES, WINDOW_S, RetryBudget
from unit.plugins.harness import FakeClock

THRESHOLD, RESET_S, PERIOD_S = 3, 60.0, 30.0
POLICY = BreakerPolicy(failure_threshold=THRESHOLD, reset_timeout_s=RESET_S, monitoring_period_s=PERIOD_S)

DOWN = RetryableError("down")


def seconds(least: int, most: int) -> st.SearchStrategy[float]:
    """In steps of 1/64: sums of them are exact, so that a time-out is over when it is."""
    return st.integers(least * 64, most * 64).map(lambda n: n / 64)


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin, and end in any order and any way, while time passes; now and then somebody else has a say."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.told: list[Change] = []
        self.changed_at_s = 0.0
        self.breaker = Breaker("a", POLICY, self.clock, self.changed)
        self.streams: list[float] = []
        """When each began of those that go on."""
        self.under_way: list[tuple[int, int]] = []
        """Terms of calls, and how many changes were told when they began."""
        self.probes: list[tuple[int, float]] = []
        """Terms and begins of those that were let in while it was half-open."""

    def changed(self, change: Change) -> None:
        self.told.append(change)
        self.changed_at_s = self.clock()

    @rule()
    def begin(self) -> None:
        was = self.breaker.state
        try:
            term = self.breaker.admit()
        except CircuitOpen as exc:
            refusal = exc
        else:
            refusal = None
        if refusal is not None:
            assert was != "closed"
            assert refusal.retry_after_s is None or refusal.retry_after_s > 0
            assert (refusal.retry_after_s is None) == (self.breaker.forced == "open")
            return
        assert self.breaker.state != "open"
        if self.breaker.state == "half_open":
            going_on = [since_s for other, since_s in self.probes if other in {of for of, _ in self.under_way}]
            assert all(since_s <= self.clock() - RESET_S for since_s in going_on), "two probes at once"
            self.probes.append((term, self.clock()))
        self.under_way.append((term, len(self.told)))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), exc=st.sampled_from([None, DOWN, AuthenticationFailed("no"), CircuitOpen("in"), DOWN]))
    def end(self, data: st.DataObject, exc: Exception | None) -> None:
        term, n_told = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        was, is_late = self.breaker.status, n_told < len(self.told)
        self.breaker.settle(term, exc)
        if is_late:
            assert self.breaker.status == was, "what began before the last change counts for nothing"
        if exc is not DOWN:
            assert was.state == "open" or self.breaker.state != "open", "opened by what is no failure"
            assert self.breaker.status.n_failures <= was.n_failures
        if exc is not None:
            assert was.state == "closed" or self.breaker.state != "closed", "closed by what is no success"
        self.probes = [probe for probe in self.probes if probe[0] != term]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """A call's stream begins."""
        term, n_told = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        was, is_late = self.breaker.status, n_told < len(self.told)
        self.breaker.begun(term)
        assert not is_late or self.breaker.status == was
        assert self.breaker.state in {was.state, "closed"}
        assert self.breaker.status.n_failures <= was.n_failures
        self.probes = [probe for probe in self.probes if probe[0] != term]
        self.streams.append(self.clock())

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), exc=st.sampled_from([None, DOWN, AuthenticationFailed("no"), CircuitOpen("in"), DOWN]))
    def end_stream(self, data: st.DataObject, exc: Exception | None) -> None:
        since_s = self.streams.pop(data.draw(st.integers(0, len(self.streams) - 1)))
        was, is_late = self.breaker.status, since_s < self.changed_at_s
        self.breaker.ended(exc, since_s=since_s)
        if is_late or was.state != "closed":
            assert self.breaker.status == was, "it neither opens nor closes what changed since"
        elif exc is DOWN and was.forced is None:
            assert self.breaker.status.n_failures - was.n_failures in {0, 1}, "0: one broke since it began"
        else:
            assert self.breaker.state == "closed"
            assert self.breaker.status.n_failures <= was.n_failures

    @precondition(lambda self: self.breaker.state == "closed" and self.breaker.forced is None)
    @rule(then_s=st.sampled_from([0.0, RESET_S]))
    def fall(self, then_s: float) -> None:
        """An outage, and perhaps its end: else hypothesis hardly ever opens it."""
        for _ in range(THRESHOLD):
            if self.breaker.state == "closed":
                self.breaker.settle(self.breaker.admit(), DOWN)
        assert self.breaker.state == "open"
        self.clock.now_s += then_s

    @rule(by_s=seconds(0, 120))
    def wait(self, by_s: float) -> None:
        self.clock.now_s += by_s

    @rule()
    def recover(self) -> None:
        self.breaker.recovered()
        assert self.breaker.forced is not None or self.breaker.state == "closed"
        self.probes = []

    @rule(state=st.sampled_from(["open", "closed", None]))
    def force(self, state: str | None) -> None:
        forced = self.breaker.forced
        self.breaker.force(state)  # type: ignore[arg-type]
        if (state, forced) != (None, None):
            self.probes = []

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        assert self.breaker.status.n_failures == 0
        assert self.breaker.state == "closed"
        self.probes = []

    @rule(ago_s=seconds(0, 100), rest_s=seconds(-10, 1000))
    def hear_of_opening(self, ago_s: float, rest_s: float) -> None:
        was = self.breaker.state
        self.breaker.follow_open(at_s=self.clock() - ago_s, until_s=self.clock() + rest_s)
        assert self.breaker.state in {was, "open"}

    @rule(ago_s=seconds(0, 100))
    def hear_of_closing(self, ago_s: float) -> None:
        was = self.breaker.state
        self.breaker.follow_closed(at_s=self.clock() - ago_s)
        assert self.breaker.state in {was, "closed"}
        if self.breaker.state == "closed":
            self.probes = []

    @invariant()
    def waits_are_bounded(self) -> None:
        """Whoever comes back when it is told to is not told to wait for longer than a reset time-out."""
        assert 0 <= (self.breaker.status.retry_after_s or 0) <= RESET_S

    @invariant()
    def changes_are_told_once(self) -> None:
        shown = [("closed", None), *((change.state, change.forced) for change in self.told)]
        assert shown[-1] == (self.breaker.state, self.breaker.forced)
        assert all(one != next_ for one, next_ in itertools.pairwise(shown))

    def teardown(self) -> None:
        """Whatever happened: once the dependency is well it is called again, within two reset time-outs."""
        if self.breaker.forced == "open":
            return
        self.clock.now_s += RESET_S  # whatever is open; a probe that hangs
        self.breaker.settle(self.breaker.admit())
        assert self.breaker.state == "closed"
        self.breaker.settle(self.breaker.admit())


BreakerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBreaker = pytest.mark.requirement("RES-1")(BreakerMachine.TestCase)


def n_let_in(breaker: Breaker, n_callers: int = 50) -> list[int]:
    """Terms of those of so many callers who are not refused."""
    terms: list[int] = []
    for _ in range(n_callers):
        with contextlib.suppress(CircuitOpen):
            terms.append(breaker.admit())
    return terms


@pytest.mark.requirement("RES-1")
@settings(deadline=None)
@given(n_callers=st.integers(1, 60), random=st.randoms(use_true_random=False))
def test_a_dead_target_gets_at_most_threshold_and_calls_under_way(n_callers: int, random: Random) -> None:
    """Each caller's call fails, whenever it does, and it calls again at once, until it is refused. Then nothing for a
    reset time-out, then one call, with fifty waiting; and so on."""
    clock = FakeClock()
    breaker = Breaker("a", POLICY, clock, lambda _: None)
    under_way = [breaker.admit() for _ in range(n_callers)]
    n_sent = n_callers
    while under_way:
        breaker.settle(under_way.pop(random.randrange(len(under_way))), DOWN)
        again = n_let_in(breaker, 1)
        n_sent += len(again)
        under_way += again
    assert breaker.state == "open"
    assert n_sent <= THRESHOLD - 1 + n_callers
    for _ in range(5):
        clock.now_s += RESET_S - 0.125
        assert n_let_in(breaker) == []
        clock.now_s += 0.125
        (probe,) = n_let_in(breaker)
        breaker.settle(probe, DOWN)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("calls"), st.integers(1, 60), st.just(0.0)),
        st.tuples(st.just("fails"), st.integers(1, 30), seconds(0, 30)),
        st.tuples(st.just("passes"), st.just(0), seconds(0, 40)),
    ),
    max_size=40,
)


@pytest.mark.requirement("RES-2")
@settings(max_examples=200, deadline=None)
@given(events=EVENTS, ratio=st.sampled_from([0.0, 0.05, 0.2, 1.0]))
def test_retries_of_any_minute_keep_to_the_budget(events: Sequence[tuple[str, int, float]], ratio: float) -> None:
    """However calls, failures, waits and time are mixed: of the retries sent within any minute, there were never more
    than the floor, or their share of the calls of the minute before the last of them was granted."""
    clock = FakeClock(1_000.25)
    budget = RetryBudget(ratio, clock)
    calls: list[float] = []
    granted: list[tuple[float, float]] = []
    """When each was granted, and when it is sent."""
    for what, n, some_s in events:
        if what == "passes":
            clock.now_s += some_s
        elif what == "calls":
            for _ in range(n):
                budget.called()
            calls += [clock()] * n
        else:
            granted += [(clock(), clock() + some_s) for _ in range(n) if budget.take(some_s)]
    for end_s in {end_s for _, end_s in granted}:
        within = [one for one in granted if end_s - WINDOW_S < one[1] <= end_s]
        last_s = max(at_s for at_s, _ in within)
        n_calls = sum(last_s - WINDOW_S < at_s <= last_s for at_s in calls)
        assert len(within) <= max(MIN_RETRIES, ratio * n_calls)


@pytest.mark.requirement("RES-2")
@given(n_calls=st.integers(0, 500))
def test_a_budget_is_used_in_full_and_comes_back(n_calls: int) -> None:
    """Not a retry less than is allowed, and a minute later as many again."""
    clock = FakeClock()
    budget = RetryBudget(0.2, clock)
    for _ in range(2):
        for _ in range(n_calls):
            budget.called()
        n_granted = sum(budget.take(0.0) for _ in range(n_calls + MIN_RETRIES))
        assert n_granted == max(MIN_RETRIES, int(0.2 * n_calls))
        clock.now_s += WINDOW_S + 1


@pytest.mark.requirement("RES-2")
@pytest.mark.parametrize("wait_s", [0.0, 30.0])
def test_a_retry_counts_until_a_minute_after_it_was_sent(wait_s: float) -> None:
    """Not after it was granted: those that wait come later, and must not meet as many new ones."""
    clock = FakeClock(1_000.875)
    budget = RetryBudget(0.2, clock)
    assert all(budget.take(wait_s) for _ in range(MIN_RETRIES))
    clock.now_s += wait_s + WINDOW_S - 0.125
    assert not budget.take(0.0)
    clock.now_s += 1.125
    assert budget.take(0.0)
