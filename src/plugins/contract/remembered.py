"""Answers of the database in memory: never more than `max_age_s` behind it while it can be heard.

An answer is right until a change of what it is about is told, as long as the feed of changes is heard. When it is not,
the database is asked again; and when that cannot answer either, what was right lately stands in for `max_stale_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from plugins.contract.errors import RetryableError
from plugins.contract.ports import ChangeFeed

T = TypeVar("T")

PATIENCE_S = 0.2
"""How long a known answer is kept waiting for a newer one, when the database is slow."""

LEFT_ALONE_S = 0.5
"""How long a database that did not answer is not asked again about what is known."""

DOUBTED_S = 0.5
"""For so long after that it is asked, and nobody waits: with some calls a second, an outage keeps none of them waiting.
Both together are the second within which a change that was not heard of must be seen once it is back."""


class Answer(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """`asked_at_s`: when the question was put, as what changed right after it may still be missing in the answer."""

    value: T | None
    asked_at_s: float


class Remembered(Generic[T]):
    """Answers by handle. What is not there (None) is remembered apart, so that guessing pushes out nothing that is."""

    def __init__(
        self,
        ask: Callable[[bytes], Awaitable[T | None]],
        feed: ChangeFeed,
        *,
        max_age_s: float,
        max_stale_s: float,
        max_entries: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask_for = ask
        self._feed = feed
        self._max_age_s = max_age_s
        self._max_stale_s = max_stale_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._known = _RecentAnswers[T](max_entries)
        self._unknown = _RecentAnswers[T](max(1, max_entries // 10))
        self._flights: dict[bytes, asyncio.Task[Answer[T]]] = {}
        feed.subscribe(self.forget)

    async def find(self, handle: bytes) -> T | None:
        """Raises: RetryableError when nothing is known and nobody answers in time; a failure is never remembered."""
        answer = self._known.get(handle) or self._unknown.get(handle)
        now_s = self._clock()
        while answer is None or self._feed.vouched_until(answer.asked_at_s) < now_s - self._max_age_s:
            if answer is not None and answer.value is not None:
                return await self._renewed(handle, answer, now_s)
            answer = await self._join(handle)
        return answer.value

    def forget(self, handle: bytes) -> None:
        """It changed. Who asked before gets the answer of before; who asks from now on does not."""
        self._known.drop(handle)
        self._unknown.drop(handle)
        self._flights.pop(handle, None)

    async def close(self) -> None:
        """Cancel what is under way."""
        flights = [*self._flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _vouched_until(self, answer: Answer[T]) -> float:
        return self._feed.vouched_until(answer.asked_at_s)

    async def _renewed(self, handle: bytes, answer: Answer[T], now_s: float) -> T | None:
        """Asked again; while nobody answers, what was right lately."""
        is_good = self._vouched_until(answer) >= now_s - self._max_stale_s
        if is_good and now_s < self._feed.left_alone_until_s:
            return answer.value
        if is_good and now_s < self._feed.left_alone_until_s + DOUBTED_S:
            self._feed.left_alone_until_s = now_s + LEFT_ALONE_S
            self._flight(handle)
            return answer.value
        try:
            async with asyncio.timeout(PATIENCE_S if is_good else None):
                while self._vouched_until(fresh := await self._join(handle)) < now_s - self._max_age_s:
                    pass  # an answer to an old question
                return fresh.value
        except (TimeoutError, RetryableError):
            # Told to have changed meanwhile: then what we held is known to be wrong. Or an old question was answered
            # at last, as when a frozen database goes on: then that stands in.
            held = self._known.get(handle)
            if held is None or self._vouched_until(held) < now_s - self._max_stale_s:
                raise _cannot_be_asked() from None
            self._feed.left_alone_until_s = self._clock() + LEFT_ALONE_S
            return held.value

    async def _join(self, handle: bytes) -> Answer[T]:
        """One question a handle at a time, in a task of its own: the first asker may leave, the others still wait."""
        try:
            return await asyncio.shield(self._flight(handle))
        except RetryableError as exc:  # many askers: each its own exception, as a shared one collects all tracebacks
            raise RetryableError(exc.message, retry_after_s=exc.retry_after_s) from None

    def _flight(self, handle: bytes) -> asyncio.Task[Answer[T]]:
        flight = self._flights.get(handle)
        if flight is None or flight.done():  # done and not landed yet: awaiting it again would never let it land
            flight = asyncio.create_task(self._ask(handle), name="remembered")
            self._flights[handle] = flight
            flight.add_done_callback(lambda done: self._landed(handle, done))
        return flight

    async def _ask(self, handle: bytes) -> Answer[T]:
        asked_at_s = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                value = await self._ask_for(handle)
        except TimeoutError:
            raise _cannot_be_asked() from None
        answer = Answer(value, asked_at_s)
        if self._clock() < asked_at_s + PATIENCE_S:
            self._feed.left_alone_until_s = float("-inf")  # it answers again: nobody need do without
        if self._flights.get(handle) is asyncio.current_task():  # else it was forgotten meanwhile
            (self._unknown if value is None else self._known).put(handle, answer)
            (self._known if value is None else self._unknown).drop(handle)
        return answer

    def _landed(self, handle: bytes, flight: asyncio.Task[Answer[T]]) -> None:
        if self._flights.get(handle) is flight:
            del self._flights[handle]
        if not flight.cancelled():
            flight.exception()  # seen, even when every asker has left


def _cannot_be_asked() -> RetryableError:
    return RetryableError("this cannot be checked at the moment: the database does not answer", retry_after_s=1)


class _RecentAnswers(Generic[T]):
    """At most `max_entries`, least recently used go first."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._answers: OrderedDict[bytes, Answer[T]] = OrderedDict()

    def get(self, handle: bytes) -> Answer[T] | None:
        answer = self._answers.get(handle)
        if answer is not None:
            self._answers.move_to_end(handle)
        return answer

    def put(self, handle: bytes, answer: Answer[T]) -> None:
        self._answers[handle] = answer
        self._answers.move_to_end(handle)
        if len(self._answers) > self._max_entries:
            self._answers.popitem(last=False)

    def drop(self, handle: bytes) -> None:
        self._answers.pop(handle, None)
