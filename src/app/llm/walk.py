"""The way through a plan's targets: one after the other, as `verdicts` says, until one gives.

With several targets the next one is tried at once; retries with backoff are for the last that is left. One that has as
many calls as it takes is passed over, and waited for when nobody else is left. One that may be hedged has help from the
next one when it is slow (`hedging`).
"""

from __future__ import annotations

import logging
import time
from typing import TypeVar

from app.llm.answers import Served
from app.llm.attempts import Attempts
from app.llm.hedging import Hedging
from app.llm.legs import Asking, Leg, Legs
from app.llm.model import Plan, Target
from app.llm.places import NO_PLACE, Place, Places
from app.llm.verdicts import verdict_on
from plugins.contract.errors import Overloaded, WattosError
from plugins.contract.work import waited_for_model

logger = logging.getLogger("llm")

T = TypeVar("T")

COME_AGAIN_S = 1.0
"""What callers are told when all places are taken: answers take seconds, so some have ended by then."""


class Walk:
    """Of one chain; it keeps nothing of a request."""

    def __init__(self, legs: Legs, places: Places, hedging: Hedging) -> None:
        self._legs = legs
        self._places = places
        self._hedging = hedging

    async def to_who_gives(self, plan: Plan, asking: Asking[T]) -> Served[T]:
        """Raises: what the only target raised, or AllTargetsFailed; Overloaded; what stops the walk."""
        began_s, attempts = time.monotonic(), asking.attempts
        attempts.under_way = None  # of the stream before, where this one is to continue it
        waiting = plan.targets
        full: tuple[Target, ...] = ()
        asked: set[str] = set()
        while waiting or full:
            if waiting:
                target, waiting = waiting[0], waiting[1:]
                place = self._places.take(target)
                if place is None:
                    full = (*full, target)
                    continue
            else:
                target, place = await self._place_at(full, attempts)
                full = tuple(other for other in full if other is not target)
            asked.add(target.id)
            leg: Leg[T] = Leg(target, place, asking.account)
            after_s = None
            if target.may_hedge and waiting:
                after_s = self._hedging.after_s(target, is_whole=asking.is_whole)
            asked_s = time.monotonic()
            try:
                if after_s is None:
                    value = await self._legs.run(leg, asking, is_last=not (waiting or full))
                else:
                    leg, waiting = await self._hedging.raced(leg, waiting, asking, after_s, is_last=not full)
                    asked.add(leg.target.id)
                    value = leg.task.result()
            except WattosError as exc:
                instead = self._after(exc, leg.target, plan, asked, attempts)
                if instead is not None:
                    waiting, full = instead, ()
            else:
                self._legs.answered(leg.target)
                return Served(
                    value=value,
                    target=leg.target,
                    rest=(*full, *waiting),
                    attempts=attempts,
                    began_s=began_s,
                    account=leg.account,
                    place=NO_PLACE if asking.is_whole else leg.place,
                )
            finally:
                attempts.under_way = leg.target if leg.is_under_way else None
                waited_for_model(time.monotonic() - asked_s)
        raise attempts.summary()

    async def _place_at(self, full: tuple[Target, ...], attempts: Attempts) -> tuple[Target, Place]:
        """Raises: Overloaded, or AllTargetsFailed where others failed before."""
        for target in full:  # a place that came free while others were asked
            if (place := self._places.take(target)) is not None:
                return target, place
        found = await self._places.wait(full)
        if found is not None:
            return found
        for target in full:
            busy = Overloaded(f"{target.id} has as many calls as it takes", retry_after_s=COME_AGAIN_S)
            attempts.failed(target, busy, 0.0)
        raise attempts.summary()

    def _after(
        self, exc: WattosError, target: Target, plan: Plan, asked: set[str], attempts: Attempts
    ) -> tuple[Target, ...] | None:
        """Whom to ask instead of those that are left; None: go on. Raises: the failure, if nobody could do better."""
        self._legs.failed(target, exc, attempts)
        then = verdict_on(exc).then
        if then == "next":
            return None
        instead = {"longer": plan.on_context, "lenient": plan.on_policy}.get(then, ())
        others = tuple(other for other in instead if other.id not in asked)
        if not others:
            raise attempts.raised(exc)
        logger.info("target %s cannot take this request: %s", target.id, exc.code)
        return others
