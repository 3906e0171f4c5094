"""How targets fare: calls under way, how many failed, and how long they take. Of one process, in memory."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

import msgspec

from app.llm.recent import Recent

WINDOW = 100
"""Answers that quantiles are taken of: enough for five beyond the p95, few enough to follow a target that changes."""

KNOWN_FROM = 20
"""Answers from which on a p95 is one: with fewer it is the slowest of them."""

IN_VAIN = 2.0
"""Times the p95, and who waited longer waits for an answer that will not come: one in a hundred takes so long."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Who waits for less never waited in vain, however quick the target mostly is: a tenant with long questions and
    short deadlines must not close it to others."""

    first_token_s: float = 10.0
    whole_s: float = 30.0


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """In milliseconds, of the last answers."""

    p50: float
    p95: float
    p99: float


class Fare(msgspec.Struct, frozen=True, kw_only=True):
    """How one target fares now."""

    n_running: int = 0
    n_calls: int = 0
    """That ended in the last minute."""
    n_failed: int = 0
    """Of them, by the target's own fault."""
    first_token_ms: Quantiles | None = None
    """Of streams."""
    total_ms: Quantiles | None = None
    """Of whole answers, and of streams that came to their end."""


class _Latest:
    """The last answers' times."""

    __slots__ = ("_ms", "_ordered")

    def __init__(self) -> None:
        self._ms: deque[float] = deque(maxlen=WINDOW)
        self._ordered: list[float] | None = None
        """None: to be ordered."""

    def __len__(self) -> int:
        return len(self._ms)

    def add(self, ms: float) -> None:
        self._ms.append(ms)
        self._ordered = None

    def quantile(self, share: float) -> float:
        """There is one answer at least."""
        if self._ordered is None:
            self._ordered = sorted(self._ms)
        return self._ordered[math.ceil(share * len(self._ordered)) - 1]

    def quantiles(self) -> Quantiles | None:
        if not self._ms:
            return None
        p50, p95, p99 = (round(self.quantile(share), 1) for share in (0.5, 0.95, 0.99))
        return Quantiles(p50=p50, p95=p95, p99=p99)


class _Fare:
    __slots__ = ("answers", "first_tokens", "minute", "n_running", "totals", "wholes")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.n_running = 0
        self.minute = Recent(bucket_s=1.0, clock=clock)
        self.answers = _Latest()
        """Whole ones, and streams up to their first token."""
        self.wholes = _Latest()
        self.first_tokens = _Latest()
        self.totals = _Latest()


class Traffic:
    """Begin and end each call that is sent. Target ids are those of a catalog, so there are not too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, patience: Patience | None = None) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._patience = patience or Patience()
        self._fares: dict[str, _Fare] = {}

    def begin(self, target_id: str) -> None:
        fare = self._fares.get(target_id)
        if fare is None:
            fare = self._fares[target_id] = _Fare(self._clock)
        fare.n_running += 1

    def end(
        self,
        target_id: str,
        answer_ms: float | None,
        *,
        is_whole: bool = False,
        total_ms: float | None = None,
        has_failed: bool = False,
    ) -> None:
        """`answer_ms`: until a whole answer, else until a stream's first token; None: it gave none. `total_ms`: of a
        stream that came to its end. `has_failed`: by the target's own fault."""
        fare = self._fares[target_id]
        fare.n_running -= 1
        fare.minute.count(is_marked=has_failed)
        if answer_ms is None:
            return
        fare.answers.add(answer_ms)
        if is_whole:
            fare.wholes.add(answer_ms)
            fare.totals.add(answer_ms)
        else:
            fare.first_tokens.add(answer_ms)
            if total_ms is not None:
                fare.totals.add(total_ms)

    def n_running(self, target_id: str) -> int:
        fare = self._fares.get(target_id)
        return fare.n_running if fare else 0

    def p95_ms(self, target_id: str) -> float | None:
        """Until it answers, whole or with a first token; None while it never did."""
        fare = self._fares.get(target_id)
        return fare.answers.quantile(0.95) if fare and fare.answers else None

    def slow_from_ms(self, target_id: str, *, is_whole: bool) -> float | None:
        """The p95 of whole answers, or of first tokens; None while there were too few to know it."""
        fare = self._fares.get(target_id)
        if fare is None:
            return None
        latest = fare.wholes if is_whole else fare.first_tokens
        return latest.quantile(0.95) if len(latest) >= KNOWN_FROM else None

    def in_vain_from_s(self, target_id: str, *, is_whole: bool) -> float:
        """Who waited so long for an answer, or for a first token, waited longer than one takes."""
        fare = self._fares.get(target_id)
        latest = None if fare is None else fare.wholes if is_whole else fare.first_tokens
        known_s = IN_VAIN * latest.quantile(0.95) / 1000 if latest else 0.0
        return max(known_s, self._patience.whole_s if is_whole else self._patience.first_token_s)

    def fare_of(self, target_id: str) -> Fare:
        fare = self._fares.get(target_id)
        if fare is None:
            return Fare()
        n_calls, n_failed = fare.minute.sums()
        return Fare(
            n_running=fare.n_running,
            n_calls=n_calls,
            n_failed=n_failed,
            first_token_ms=fare.first_tokens.quantiles(),
            total_ms=fare.totals.quantiles(),
        )

    def forget(self, kept: frozenset[str]) -> None:
        """Targets that a new catalog does not have, and that nobody waits for."""
        for target_id in [name for name, fare in self._fares.items() if name not in kept and not fare.n_running]:
            del self._fares[target_id]
