"""A bulkhead: so many calls at once, so many that wait, interactive ones first; all others are refused at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from plugins.contract.errors import DeadlinePassed, Overloaded

Priority = Literal["interactive", "batch"]
"""A person waits for the answer; or a program does, which may as well come later."""

COME_AGAIN_S: Final[dict[Priority, float]] = {"interactive": 1.0, "batch": 10.0}
"""Most calls of a model are over within some seconds, so in one there is room again; what nobody waits for can do with
ten."""


class Departure(Protocol):
    """Of a caller."""

    def call(self, callback: Callable[[], None], /) -> None:
        """Once it leaves; at once if it has left already."""
        ...

    def forget(self, callback: Callable[[], None], /) -> None: ...


class CallerLeft(Exception):
    """Its place in the queue is free."""


class Bulkhead:
    """Places for one event loop. Within a priority, who came first is first. `what`: stands in the refusal."""

    def __init__(self, what: str, *, max_concurrency: int, max_queued: int, max_wait_s: float) -> None:
        self._what = what
        self._max_concurrency = max_concurrency
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {"interactive": deque(), "batch": deque()}
        self.n_running = 0

    @property
    def n_queued(self) -> int:
        return len(self._waiting["interactive"]) + len(self._waiting["batch"])

    def enter(self, priority: Priority = "interactive", *, deadline_s: float | None = None) -> _Place:
        """`async with`: inside, one place is taken. `deadline_s`: of the event loop's clock.

        Raises: as `wait`, which is only entered when no place is free.
        """
        return _Place(self, priority, deadline_s)

    def try_take(self) -> bool:
        """Take a free place, to `give_back` later; False: there is none. Nobody is overtaken: who waits, waits because
        there is none."""
        if self.n_running >= self._max_concurrency:
            return False
        self.n_running += 1
        return True

    async def wait(
        self, priority: Priority, *, deadline_s: float | None = None, departure: Departure | None = None
    ) -> None:
        """Until a place is ours, to `give_back` later.

        Raises: Overloaded, at once when all is full, else when no place was free in time; DeadlinePassed; CallerLeft.
        """
        if self.n_queued >= self._max_queued and not self._makes_room(priority):
            raise self.refusal(priority)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._max_wait_s
        place = loop.create_future()
        self._waiting[priority].append(place)

        def leave() -> None:
            if not place.done():
                place.set_exception(CallerLeft())

        if departure is not None:
            departure.call(leave)
        try:
            async with asyncio.timeout_at(until_s if deadline_s is None else min(until_s, deadline_s)):
                await place
        except BaseException as exc:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.give_back()  # it became ours in the very moment in which we left
            else:
                with contextlib.suppress(ValueError):  # taken out already
                    self._waiting[priority].remove(place)
            if not isinstance(exc, TimeoutError):
                raise
            if deadline_s is not None and deadline_s <= until_s:
                raise DeadlinePassed("the answer did not come within x-request-timeout-ms") from None
            raise self.refusal(priority) from None
        finally:
            if departure is not None:
                departure.forget(leave)

    def give_back(self) -> None:
        """To who has waited longest, if anybody does."""
        for waiting in self._waiting.values():
            while waiting:
                place = waiting.popleft()
                if not place.done():  # else its owner left, and is just finding out
                    place.set_result(None)
                    return
        self.n_running -= 1

    def refusal(self, priority: Priority) -> Overloaded:
        return Overloaded(f"{self._what} has as many calls as it takes", retry_after_s=COME_AGAIN_S[priority])

    def _makes_room(self, priority: Priority) -> bool:
        """Whether one of the queue gave way: the batch call that came last, to an interactive one."""
        batch = self._waiting["batch"]
        if priority != "interactive" or not batch:
            return False
        place = batch.pop()
        if not place.done():
            place.set_exception(self.refusal("batch"))
        return True


class _Place:
    __slots__ = ("_bulkhead", "_deadline_s", "_priority")

    def __init__(self, bulkhead: Bulkhead, priority: Priority, deadline_s: float | None) -> None:
        self._bulkhead = bulkhead
        self._priority: Priority = priority
        self._deadline_s = deadline_s

    async def __aenter__(self) -> Self:
        if not self._bulkhead.try_take():
            await self._bulkhead.wait(self._priority, deadline_s=self._deadline_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bulkhead.give_back()
