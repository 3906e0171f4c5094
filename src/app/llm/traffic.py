"""How targets fare: calls under way, and how long they take to their first token. Of one process, in memory."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 100
"""Answers that the p95 is taken of: enough for five beyond it, few enough to follow a target that changes."""


class _Fare:
    __slots__ = ("latest_ms", "n_running", "p95_ms")

    def __init__(self) -> None:
        self.n_running = 0
        self.latest_ms: deque[float] = deque(maxlen=WINDOW)
        self.p95_ms: float | None = None
        """Of `latest_ms`; None: to be computed."""


class Traffic:
    """Begin and end each call that is sent. Target ids are those of a catalog, so there are not too many."""

    def __init__(self) -> None:
        self._fares: dict[str, _Fare] = {}

    def begin(self, target_id: str) -> None:
        fare = self._fares.get(target_id)
        if fare is None:
            fare = self._fares[target_id] = _Fare()
        fare.n_running += 1

    def end(self, target_id: str, first_token_ms: float | None) -> None:
        """`first_token_ms` None: it gave none."""
        fare = self._fares[target_id]
        fare.n_running -= 1
        if first_token_ms is not None:
            fare.latest_ms.append(first_token_ms)
            fare.p95_ms = None

    def n_running(self, target_id: str) -> int:
        fare = self._fares.get(target_id)
        return fare.n_running if fare else 0

    def p95_ms(self, target_id: str) -> float | None:
        """Of the last answers; None while there is none."""
        fare = self._fares.get(target_id)
        if fare is None or not fare.latest_ms:
            return None
        if fare.p95_ms is None:
            ordered = sorted(fare.latest_ms)
            fare.p95_ms = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return fare.p95_ms

    def forget(self, kept: frozenset[str]) -> None:
        """Targets that a new catalog does not have, and that nobody waits for."""
        for target_id in [name for name, fare in self._fares.items() if name not in kept and not fare.n_running]:
            del self._fares[target_id]
