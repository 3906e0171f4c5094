"""How many retries one dependency is asked to bear: a share of its calls, so that retries make no outage worse.

https://sre.google/sre-book/handling-overload/ has the idea: retries at every layer multiply what a dependency that
fails already cannot do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 60
"""The requirement's minute."""

MIN_RETRIES: Final = 10
"""A minute, whatever the traffic: what five calls retry with the defaults (three attempts each). Five failures open
the breaker, so below this it decides."""


class RetryBudget:
    """Retries sent in any minute are at most `MIN_RETRIES`, or this ratio of the calls in the minute before the last of
    them was granted. Counts by seconds, always a second to the safe side.
    """

    def __init__(self, ratio: float, clock: Callable[[], float]) -> None:
        """`ratio`: retries a call. `clock`: monotonic seconds."""
        self._ratio = ratio
        self._clock = clock
        self._second = int(clock())
        self._n_this_second = 0
        self._n_calls = 0
        """Before this second."""
        self._calls: dict[int, int] = {}
        self._retries: dict[int, int] = {}
        """By the second in which they are sent, which may be to come."""

    def called(self) -> None:
        """A first attempt is sent."""
        second = int(self._clock())
        if second != self._second:
            self._turn_to(second)
        self._n_this_second += 1

    def take(self, wait_s: float) -> bool:
        """Whether one more retry may be sent, after this wait. Then it counts, sent or not."""
        now_s = self._clock()
        if int(now_s) != self._second:
            self._turn_to(int(now_s))
        n_calls = self._n_calls + self._n_this_second
        if sum(self._retries.values()) + 1 > max(MIN_RETRIES, self._ratio * n_calls):
            return False
        sent_in = int(now_s + wait_s)
        self._retries[sent_in] = self._retries.get(sent_in, 0) + 1
        return True

    def _turn_to(self, second: int) -> None:
        if self._n_this_second:
            self._calls[self._second] = self._n_this_second
        self._second, self._n_this_second = second, 0
        self._calls = {then: n for then, n in self._calls.items() if then > second - WINDOW_S}
        self._retries = {then: n for then, n in self._retries.items() if then >= second - WINDOW_S}
        self._n_calls = sum(self._calls.values())
