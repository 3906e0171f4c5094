"""A circuit breaker: purgatory's state machine, and around it what purgatory 3.0.1 leaves open.

purgatory's `Context` keeps the state, counts the failures in a row and decides every transition. Ours are the clock
(its own is the wall clock, not injectable), the monitoring period, one probe at a time (it lets all callers through),
a fresh exception for each refusal (it raises one shared object), and whose outcome counts: cancellation and errors that
are not the dependency's neither open nor close (its context manager takes them for failures, or excluded for success).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import Context

from plugins.contract.errors import CircuitOpen, RetryableError

T = TypeVar("T")
State = Literal["closed", "open", "half_open"]

_STATES: dict[str, State] = {"closed": "closed", "opened": "open", "half-opened": "half_open"}
_WHILE_PROBING_RETRY_AFTER_S = 1.0  # a probe is one call: most are over within a second or so

Listener = Callable[[str, State], None]


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`failure_threshold` failures in a row within `monitoring_period_s` open; a probe after `reset_timeout_s`."""

    failure_threshold: int
    reset_timeout_s: float
    monitoring_period_s: float


class Breaker:
    """One dependency's circuit, for one event loop. `on_change` hears name and new state of each transition."""

    def __init__(self, name: str, policy: BreakerPolicy, clock: Callable[[], float], on_change: Listener) -> None:
        """`clock`: monotonic seconds."""
        self._name = name
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._context = self._closed_context(0)
        self._failed_at_s: deque[float] = deque()
        self._opened_at_s = -math.inf
        self._probing_since_s: float | None = None
        self._term = 0
        """Grows with each transition and each probe: an outcome counts only in the term in which its call began."""

    @property
    def state(self) -> State:
        return _STATES[self._context.state]

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Raises: CircuitOpen when nothing was sent; else whatever `attempt` raised, of which only a RetryableError
        counts as the dependency's failure."""
        term = self._admit()
        try:
            result = await attempt()
        except RetryableError as exc:
            if isinstance(exc, CircuitOpen):  # another breaker's, further in: says nothing about this dependency
                self._release(term)
            else:
                self._failed(term, exc)
            raise
        except BaseException:
            self._release(term)
            raise
        self._succeeded(term)
        return result

    def _admit(self) -> int:
        now_s = self._clock()
        match self.state:
            case "closed":
                return self._term
            case "open":
                wait_s = self._opened_at_s + self._policy.reset_timeout_s - now_s
                if wait_s > 0:
                    raise self._refusal(wait_s)
                self._context.handle_new_request()  # open → half-open
                self._announce()
            case "half_open":
                since_s = self._probing_since_s
                # A probe that hangs must not close the way for good: after a reset time-out another one may go.
                if since_s is not None and now_s < since_s + self._policy.reset_timeout_s:
                    raise self._refusal(_WHILE_PROBING_RETRY_AFTER_S)
        self._probing_since_s = now_s
        self._term += 1
        return self._term

    def _succeeded(self, term: int) -> None:
        if term != self._term:
            return
        self._failed_at_s.clear()
        self._context.handle_end_request()  # half-open → closed; when closed, the row of failures ends
        self._announce()

    def _failed(self, term: int, exc: RetryableError) -> None:
        if term != self._term:
            return
        if self.state == "closed":
            self._forget_old_failures()
        self._context.handle_exception(exc)  # half-open → open; closed → open when the row is long enough
        if self.state == "open":
            self._opened_at_s = self._clock()
            self._failed_at_s.clear()
        self._announce()

    def _release(self, term: int) -> None:
        if term == self._term:
            self._probing_since_s = None

    def _forget_old_failures(self) -> None:
        """Count this failure, and drop those before the monitoring period, which purgatory knows nothing of."""
        now_s = self._clock()
        n_before = len(self._failed_at_s)
        while self._failed_at_s and self._failed_at_s[0] <= now_s - self._policy.monitoring_period_s:
            self._failed_at_s.popleft()
        if len(self._failed_at_s) < n_before:
            self._context = self._closed_context(len(self._failed_at_s))
        self._failed_at_s.append(now_s)

    def _announce(self) -> None:
        """purgatory leaves a message for each thing that happened; a transition begins a new term."""
        messages, self._context.messages = self._context.messages, []
        if any(isinstance(message, ContextChanged) for message in messages):
            self._term += 1
            self._probing_since_s = None
            self._on_change(self._name, self.state)

    def _refusal(self, retry_after_s: float) -> CircuitOpen:
        return CircuitOpen(f"{self._name} has failed repeatedly and is not called for now", retry_after_s=retry_after_s)

    def _closed_context(self, n_failures: int) -> Context:
        # The endless negative time-to-live leaves the time of the probe to us: see `_admit`.
        return Context(self._name, self._policy.failure_threshold, -math.inf, failure_count=n_failures)
