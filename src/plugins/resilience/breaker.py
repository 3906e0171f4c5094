"""A circuit breaker: purgatory's state machine, and around it what purgatory 3.0.1 leaves open.

purgatory's `Context` keeps the state, counts the failures in a row and decides every transition. Ours are the clock
(its own is the wall clock, not injectable), the monitoring period, one probe at a time (it lets all callers through),
a fresh exception for each refusal (it raises one shared object), whose outcome counts (cancellation and errors that
are not the dependency's neither open nor close; its context manager takes them for failures, or excluded for success),
and what operators and other replicas say.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import Context

from plugins.contract.breakers import BreakerState, BreakerStatus, Forced
from plugins.contract.errors import CircuitOpen, Overloaded, RetryableError

T = TypeVar("T")
Cause = Literal["outcome", "background", "operator", "replica"]
"""A call's; somebody asked the dependency in the background and was answered; an operator; another replica told."""

_STATES: dict[str, BreakerState] = {"closed": "closed", "opened": "open", "half-opened": "half_open"}
_WHILE_PROBING_RETRY_AFTER_S = 1.0  # a probe is one call: most are over within a second or so
_UNCOUNTED = -1  # no term: while forced, no outcome counts

REFUSALS = (CircuitOpen, Overloaded)
"""Retryable, but nothing was begun: they say nothing about the dependency, and asking again at once is no use."""


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`failure_threshold` failures in a row within `monitoring_period_s` open; a probe after `reset_timeout_s`."""

    failure_threshold: int
    reset_timeout_s: float
    monitoring_period_s: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One transition, as it shows: while forced, only forcing changes anything."""

    name: str
    state: BreakerState
    forced: Forced | None
    cause: Cause


Listener = Callable[[Change], None]


class Breaker:
    """One dependency's circuit, for one event loop. `on_change` hears of each transition, once."""

    def __init__(self, name: str, policy: BreakerPolicy, clock: Callable[[], float], on_change: Listener) -> None:
        """`clock`: monotonic seconds."""
        self.name = name
        self.policy = policy
        self.state: BreakerState = "closed"
        """As it shows: `forced`, or what outcomes made of it."""
        self.forced: Forced | None = None
        self.forced_at_s = -math.inf
        """When an operator last forced it or set it free, here or elsewhere."""
        self.settled_at_s = -math.inf
        """When it last opened or closed for good, here or elsewhere. Half-open is neither."""
        self.open_until_s = -math.inf
        self._clock = clock
        self._on_change = on_change
        self._context = self._closed_context(0)
        self._failed_at_s: deque[float] = deque()
        self._broken_at_s: deque[float] = deque()
        """Of what had begun and then failed. One row with the failures, but that something begins does not end it."""
        self._succeeded_at_s = -math.inf
        self._probing_since_s: float | None = None
        self._term = 0
        """Grows with each transition and each probe: an outcome counts only in the term in which its call began."""
        self._turned = 0
        """The term of the last transition."""
        self._turned_at_s = -math.inf

    @property
    def status(self) -> BreakerStatus:
        return BreakerStatus(
            state=self.state,
            forced=self.forced,
            n_failures=sum(
                at_s > self._clock() - self.policy.monitoring_period_s
                for row in (self._failed_at_s, self._broken_at_s)
                for at_s in row
            ),
            retry_after_s=self._wait_s() if self.forced is None else None,
        )

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Raises: CircuitOpen when nothing was sent; else whatever `attempt` raised."""
        term = self.admit()
        try:
            result = await attempt()
        except BaseException as exc:
            self.settle(term, exc)
            raise
        self.settle(term)
        return result

    def admit(self) -> int:
        """Begin a call: its term, for `settle`, which must be told however it ends. Raises: CircuitOpen."""
        if self.forced is not None:
            if self.forced == "open":
                raise CircuitOpen(f"{self.name} is switched off by an operator")
            return _UNCOUNTED
        if self.state == "closed":
            return self._term
        wait_s = self._wait_s()
        if wait_s is not None:
            raise CircuitOpen(f"{self.name} has failed repeatedly and is not called for now", retry_after_s=wait_s)
        if self.state == "open":
            self._context.handle_new_request()  # open → half-open
            self._announce("outcome")
        self._probing_since_s = self._clock()
        self._term += 1
        return self._term

    def settle(self, term: int, exc: BaseException | None = None) -> None:
        """How a call ended. Only a RetryableError that is none of `REFUSALS` is the dependency's failure."""
        # Of a probe that another one has followed the failure is old news; that it was answered is not.
        is_late_answer = exc is None and self.state == "half_open" and term > self._turned
        if term != self._term and not is_late_answer:
            return
        if exc is None:
            self._succeeded_at_s = self._clock()
            if self._failed_at_s or self._broken_at_s or self.state != "closed":
                self._close("outcome")
        elif isinstance(exc, RetryableError) and not isinstance(exc, REFUSALS):
            self._failed(exc, self._failed_at_s)
        else:
            self._probing_since_s = None

    def begun(self, term: int) -> None:
        """How a call ended that only began something: a success, but what broke off before stays."""
        if self.state != "closed":
            self.settle(term)
        elif term == self._term:
            self._succeeded_at_s = self._clock()
            if self._failed_at_s:
                self._failed_at_s.clear()
                self._context = self._closed_context(len(self._broken_at_s))

    def ended(self, exc: BaseException | None, *, since_s: float) -> None:
        """How it went on with what had begun at `since_s`: before the last transition, it counts for nothing.

        What breaks at once is one failure: only what began after it says that it goes on. That one ended well says
        nothing of those that cannot begin now.
        """
        if self.state != "closed" or self.forced is not None or since_s < self._turned_at_s:
            return
        if exc is None:
            if self._broken_at_s:
                self._broken_at_s.clear()
                self._context = self._closed_context(len(self._failed_at_s))
        elif isinstance(exc, RetryableError) and not isinstance(exc, REFUSALS) and since_s >= self._last_broken_at_s:
            self._failed(exc, self._broken_at_s)

    def unanswered(self, *, since_s: float) -> None:
        """A call, or the probe, that was sent at `since_s` was given up in vain. Others may have been answered, or have
        become the probe, since."""
        since_when_s = max(self._turned_at_s, self._succeeded_at_s, self._probing_since_s or -math.inf)
        if since_s >= since_when_s and self.forced is None and self.state != "open":
            self._failed(RetryableError(f"{self.name} does not answer"), self._failed_at_s)

    def recovered(self) -> None:
        """It was answered in the background: open → half-open → closed at once. What is forced stays."""
        if self.forced is None and self.state != "closed":
            if self.state == "open":
                self._context.handle_new_request()
                self._announce("background")
            self._close("background")

    def reset(self) -> None:
        """Closed, with no failure behind it, and forced to nothing."""
        self._force(None, self._clock(), "operator")

    def force(self, state: Forced | None) -> None:
        """None: by its outcomes again, with none behind it."""
        if state is None and self.forced is None:
            self.forced_at_s = self._clock()  # elsewhere it may still be
            return
        self._force(state, self._clock(), "operator")

    def follow_forced(self, state: Forced | None, *, at_s: float) -> None:
        """An operator did so at another replica. Whatever was said last holds."""
        if at_s > self.forced_at_s:
            if state == self.forced:
                self.forced_at_s = at_s
            else:
                self._force(state, at_s, "replica")

    def follow_open(self, *, at_s: float, until_s: float) -> None:
        """Another replica's opened. Unless we heard better of the dependency since, or ask it just now."""
        is_news = at_s > max(self.settled_at_s, self._succeeded_at_s)
        if self.forced is None and self.state != "half_open" and is_news and until_s > self._clock():
            self.settled_at_s = at_s
            # A clock that was set must not close the way for longer than our own outcomes would.
            self.open_until_s = min(until_s, self._clock() + self.policy.reset_timeout_s)
            if self.state == "closed":
                self._context = Context(self.name, self.policy.failure_threshold, -math.inf, state="opened")
                self._moved("replica")

    def follow_closed(self, *, at_s: float) -> None:
        """Another replica's closed, and ours opened before that."""
        if self.forced is None and self.state != "closed" and at_s > self.settled_at_s:
            self._begin_row()
            self.settled_at_s = at_s
            self._moved("replica")

    def _wait_s(self) -> float | None:
        """How long nobody is let through from now on; None: somebody is."""
        now_s = self._clock()
        if self.state == "open":
            return self.open_until_s - now_s if now_s < self.open_until_s else None
        # A probe that hangs must not close the way for good: after a reset time-out another one may go.
        since_s = self._probing_since_s
        if self.state == "half_open" and since_s is not None and now_s < since_s + self.policy.reset_timeout_s:
            return _WHILE_PROBING_RETRY_AFTER_S
        return None

    @property
    def _last_broken_at_s(self) -> float:
        return self._broken_at_s[-1] if self._broken_at_s else -math.inf

    def _close(self, cause: Cause) -> None:
        self._failed_at_s.clear()
        self._broken_at_s.clear()
        self._context.handle_end_request()  # half-open → closed; when closed, the row of failures ends
        self._announce(cause)

    def _failed(self, exc: RetryableError, row: deque[float]) -> None:
        if self.state == "closed":
            self._forget_old_failures()
            row.append(self._clock())
        self._context.handle_exception(exc)  # half-open → open; closed → open when the row is long enough
        self._announce("outcome")

    def _force(self, state: Forced | None, at_s: float, cause: Cause) -> None:
        shown = (self.state, self.forced)
        self.forced, self.forced_at_s, self.settled_at_s = state, at_s, at_s
        self._begin_row()
        self._begin_term()
        if shown != (self.state, self.forced):
            self._tell(cause)

    def _forget_old_failures(self) -> None:
        """Those before the monitoring period, which purgatory knows nothing of."""
        until_s, were_some = self._clock() - self.policy.monitoring_period_s, False
        for row in (self._failed_at_s, self._broken_at_s):
            while row and row[0] <= until_s:
                row.popleft()
                were_some = True
        if were_some:
            self._context = self._closed_context(len(self._failed_at_s) + len(self._broken_at_s))

    def _begin_row(self) -> None:
        self._failed_at_s.clear()
        self._broken_at_s.clear()
        self._context = self._closed_context(0)

    def _announce(self, cause: Cause) -> None:
        """purgatory leaves a message for each thing that happened; a transition begins a new term."""
        if not self._context.messages:
            return
        messages, self._context.messages = self._context.messages, []
        if any(isinstance(message, ContextChanged) for message in messages):
            self._moved(cause)

    def _moved(self, cause: Cause) -> None:
        self._begin_term()
        if cause != "replica" and self.state != "half_open":
            self.settled_at_s = self._clock()
            self.open_until_s = self.settled_at_s + self.policy.reset_timeout_s
        self._tell(cause)

    def _begin_term(self) -> None:
        self.state = self.forced or _STATES[self._context.state]
        self._term += 1
        self._turned = self._term
        self._turned_at_s = self._clock()
        self._probing_since_s = None

    def _tell(self, cause: Cause) -> None:
        self._on_change(Change(name=self.name, state=self.state, forced=self.forced, cause=cause))

    def _closed_context(self, n_failures: int) -> Context:
        # The endless negative time-to-live leaves the time of the probe to us: see `_wait_s`.
        return Context(self.name, self.policy.failure_threshold, -math.inf, failure_count=n_failures)
