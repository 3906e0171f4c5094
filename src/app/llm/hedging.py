"""Hedging: when a target is slower than it mostly is, the next one is asked too, and who gives first wins.

Dean and Barroso, "The Tail at Scale", https://doi.org/10.1145/2408776.2408794: asking again after the p95 adds 5 % of
load at most, and takes away most of the tail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from app.llm.accounting import Happened, NoAccount
from app.llm.instruments import Instruments, outcome_of
from app.llm.legs import Asking, Leg, Legs
from app.llm.model import Target
from app.llm.places import Places
from app.llm.recent import Recent
from app.llm.traffic import Traffic
from plugins.contract.errors import WattosError
from plugins.contract.ports import Guard

T = TypeVar("T")

MAX_SHARE = 0.05
"""Of the calls that might be hedged: what the p95 promises, and no more when a target becomes slow as a whole."""

BUCKET_S = 10.0
"""Times 60: a share of the last ten minutes' calls, so that two calls a minute are enough for a first hedge."""


class Quota:
    """How many hedges may be made, by the target that they are made for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._recent: dict[str, Recent] = {}

    def called(self, name: str) -> None:
        """A call that might be hedged."""
        recent = self._recent.get(name)
        if recent is None:
            recent = self._recent[name] = Recent(bucket_s=BUCKET_S, clock=self._clock)
        recent.count()

    def take(self, name: str) -> bool:
        """Whether one more may be made; then it is."""
        recent = self._recent[name]
        n_calls, n_hedges = recent.sums()
        if n_hedges + 1 > MAX_SHARE * n_calls:
            return False
        recent.mark()
        return True


class Hedging:
    """Of one chain."""

    def __init__(
        self,
        *,
        legs: Legs,
        guard: Guard,
        traffic: Traffic,
        places: Places,
        instruments: Instruments,
        quota: Quota | None = None,
    ) -> None:
        self._legs = legs
        self._guard = guard
        self._traffic = traffic
        self._places = places
        self._instruments = instruments
        self._quota = quota or Quota()
        self._ending: set[asyncio.Task[None]] = set()

    def after_s(self, target: Target, *, is_whole: bool) -> float | None:
        """To be asked once for each call that might be hedged. None: it is not known yet when that target is slow."""
        self._quota.called(target.known_as)
        slow_from_ms = self._traffic.slow_from_ms(target.known_as, is_whole=is_whole)
        return None if slow_from_ms is None else slow_from_ms / 1000

    async def raced(
        self, first: Leg[T], others: tuple[Target, ...], asking: Asking[T], after_s: float, *, is_last: bool
    ) -> tuple[Leg[T], tuple[Target, ...]]:
        """Returns: the leg that counts, whose task is done, and those of `others` that were not asked. `is_last`:
        nobody else is left but these."""
        left = others
        first.start(self._legs.run(first, asking, is_last=False))

        def second() -> Leg[T] | None:
            nonlocal left
            leg = self._free_one(others, first.target.known_as, asking)
            if leg is not None:
                left = tuple(target for target in others if target is not leg.target)
                leg.start(self._let_in(leg, asking, is_last=is_last and not left))
            return leg

        legs = [first]
        try:
            counts = await race(legs, after_s, second)
        except BaseException:
            for leg in legs[1:]:
                self._end(leg, asking, leg.n_sent)
            if first.has_won:  # as the caller left: entered before the request's failure is, which has its account
                await asking.discard(first.task.result(), first, asking.attempts.n_sent)
            else:
                first.place.release()  # a task that is cancelled before it began gives nothing back itself
            raise
        if len(legs) == 2:
            self._told(counts, legs, asking)
            other = legs[1]
            if other.is_refused:
                left = others
            if counts is not other or not other.has_won:
                self._end(other, asking, other.n_sent)
            if counts is other and other.has_won:
                self._end(first, asking, asking.attempts.n_sent - other.n_sent)
            else:
                first.task.cancel()  # its account is the request's, which goes on
        return counts, left

    async def settle(self) -> None:
        """Wait for the losers, which end in a moment."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _free_one(self, others: Sequence[Target], name: str, asking: Asking[T]) -> Leg[T] | None:
        """The first of them that is well and has a place, if one more hedge may be made for the target `name`."""
        states = self._guard.states()
        for target in others:
            if states.get(target.known_as, "closed") != "closed":
                continue
            place = self._places.take(target)
            if place is None:
                continue
            if self._quota.take(name):
                return Leg(target, place, NoAccount())
            place.release()
            return None
        return None

    async def _let_in(self, leg: Leg[T], asking: Asking[T], *, is_last: bool) -> T:
        try:
            leg.account = await asking.open(leg.target)
        except BaseException as exc:
            leg.is_refused = isinstance(exc, WattosError)
            leg.place.release()
            raise
        return await self._legs.run(leg, asking, is_last=is_last)

    def _told(self, counts: Leg[T], legs: Sequence[Leg[T]], asking: Asking[T]) -> None:
        """What the second leg was good for; and the failure of one that does not count."""
        second = legs[1]
        for leg in legs:
            if leg is not counts and leg.task.done() and not leg.is_refused and isinstance(leg.error, WattosError):
                self._legs.failed(leg.target, leg.error, asking.attempts)
        if second.is_refused:
            result = "refused"
        elif counts is second and second.has_won:
            result = "won"
        else:
            result = "failed" if second.task.done() and second.error is not None else "lost"
        self._instruments.hedged(second.target, result)

    def _end(self, leg: Leg[T], asking: Asking[T], n_sent: int) -> None:
        """Nobody waits for it any more: it is cancelled, and entered as what became of it."""
        leg.task.cancel()
        ending = asyncio.create_task(self._ended(leg, asking, n_sent), name="end-leg")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _ended(self, leg: Leg[T], asking: Asking[T], n_sent: int) -> None:
        await asyncio.wait({leg.task})
        error = leg.error
        if error is None:
            await asking.discard(leg.task.result(), leg, n_sent)
        else:
            leg.place.release()
            leg.account.close(
                Happened(
                    outcome=outcome_of(error),
                    target=leg.target.id,
                    attempts=n_sent,
                    is_under_way=leg.is_under_way,
                )
            )


async def race(legs: list[Leg[T]], after_s: float, second: Callable[[], Leg[T] | None]) -> Leg[T]:
    """One leg runs; `after_s` later `second` is asked for another one, which joins it. Returns: the leg that counts,
    whose task is done; the other one may still run. When the caller gives up, both have ended before this does."""
    try:
        done, _ = await asyncio.wait({legs[0].task}, timeout=after_s)
        if not done and (other := second()) is not None:
            legs.append(other)
        counts, running = legs[0], {leg.task for leg in legs}
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            ended = [leg for leg in legs if leg.task in done]
            for leg in ended:
                # What the second one refuses, the first, which is only slow, may still answer.
                if leg.decides and (leg is legs[0] or leg.has_won or not running):
                    return leg
            counts = next((leg for leg in reversed(ended) if not leg.is_refused), counts)
    except BaseException:
        for leg in legs:
            leg.task.cancel()
        await asyncio.gather(*(leg.task for leg in legs), return_exceptions=True)
        raise
    return counts
