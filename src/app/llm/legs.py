"""One call of a request to one target, with what it holds: its place there, and the account it is entered in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import msgspec

from app.llm.accounting import Account
from app.llm.attempts import Attempts
from app.llm.model import Target
from app.llm.outcomes import LastOutcomes
from app.llm.own_keys import require_key
from app.llm.places import Place
from app.llm.traffic import Traffic
from app.llm.verdicts import verdict_on
from plugins.contract.errors import CircuitOpen, WattosError
from plugins.contract.ports import Guard

logger = logging.getLogger("llm")

T = TypeVar("T")


class Leg(Generic[T]):
    """`task`: where it runs beside another one. Once it was started."""

    __slots__ = ("account", "is_refused", "is_under_way", "n_sent", "place", "target", "task")

    task: asyncio.Task[T]

    def __init__(self, target: Target, place: Place, account: Account) -> None:
        self.target = target
        self.place = place
        self.account = account
        self.n_sent = 0
        self.is_under_way = False
        """A call of it was sent and has not failed."""
        self.is_refused = False
        """It was not let in: as if it had never been."""

    def start(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.create_task(work, name="leg")

    @property
    def error(self) -> BaseException | None:
        """Of one that has ended."""
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()

    @property
    def has_won(self) -> bool:
        return self.task.done() and self.error is None

    @property
    def decides(self) -> bool:
        """Of one that has ended: it gave, or failed in a way that no other target would mend."""
        if self.is_refused or self.task.cancelled():
            return False
        return not (isinstance(self.error, WattosError) and verdict_on(self.error).then == "next")


class Asking(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request, as the walk needs it."""

    attempt: Callable[[Target], Awaitable[T]]
    account: Account
    attempts: Attempts
    is_whole: bool
    """False: what an attempt gives has only begun."""
    deadline_s: float | None
    """Of the event loop's clock."""
    open: Callable[[Target], Awaitable[Account]]
    """A further account, for a second leg. Raises: what does not let it in."""
    discard: Callable[[T, Leg[T], int], Awaitable[None]]
    """An answer that came too late, of a leg whose account says so many attempts."""


class Legs:
    """Runs them: each through its target's breaker."""

    def __init__(self, guard: Guard, outcomes: LastOutcomes, traffic: Traffic) -> None:
        self._guard = guard
        self._outcomes = outcomes
        self._traffic = traffic

    async def run(self, leg: Leg[T], asking: Asking[T], *, is_last: bool) -> T:
        """Gives back its place: of a stream that began, whoever ends it does. `is_last`: nobody else is left to ask."""
        try:
            value = await self._guarded(leg, asking, is_last=is_last)
        except BaseException:
            leg.place.release()
            raise
        if asking.is_whole:
            leg.place.release()
        return value

    async def _guarded(self, leg: Leg[T], asking: Asking[T], *, is_last: bool) -> T:
        target, attempts = leg.target, asking.attempts

        async def send() -> T:
            require_key(target)
            attempts.n_sent += 1
            leg.n_sent += 1
            leg.is_under_way = True
            sent_s = time.monotonic()
            try:
                return await asking.attempt(target)
            except WattosError as exc:
                leg.is_under_way = False
                attempts.failed(target, exc, (time.monotonic() - sent_s) * 1000)
                raise
            except asyncio.CancelledError:
                self._given_up(target, sent_s, is_whole=asking.is_whole)
                raise

        if target.own_key_id:  # what goes wrong with a tenant's own key must not open a breaker for others
            return await send()
        return await self._guard.call(
            target.known_as, send, retry=is_last, deadline_s=asking.deadline_s, is_whole=asking.is_whole
        )

    def _given_up(self, target: Target, sent_s: float, *, is_whole: bool) -> None:
        """The caller left, its deadline came, or another leg was quicker: mostly that says nothing of the target."""
        if target.own_key_id:
            return
        if time.monotonic() - sent_s >= self._traffic.in_vain_from_s(target.known_as, is_whole=is_whole):
            self._guard.unanswered(target.known_as, since_s=sent_s)

    def answered(self, target: Target) -> None:
        if not target.own_key_id:
            self._outcomes.answered(target.known_as)

    def ended(self, target: Target, broken: WattosError | None, since_s: float) -> None:
        """A stream that began at `since_s` came to its end, or broke off."""
        if target.own_key_id:
            return
        if broken is not None:
            if verdict_on(broken).then != "next":
                return
            self._outcomes.failed(target.known_as, broken)
        self._guard.ended(target.known_as, broken, since_s=since_s)

    def failed(self, target: Target, exc: WattosError, attempts: Attempts) -> None:
        if not any(failure is exc for _, failure, _ in attempts.failures):
            attempts.failed(target, exc, 0.0)  # the breaker's refusal: nothing was sent
        if verdict_on(exc).then == "next":
            if not target.own_key_id:
                self._outcomes.failed(target.known_as, exc)
            # A breaker tells once that it opened: that each call met it is no news.
            level = logging.DEBUG if isinstance(exc, CircuitOpen) else logging.WARNING
            logger.log(level, "target %s failed: %s", target.id, exc.code)
