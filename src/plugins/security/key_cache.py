"""Whose key it is, from memory: the database is asked once a key and second, however many calls come in."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from plugins.contract.errors import RetryableError
from plugins.contract.ports import KeyLookup
from plugins.contract.principal import KeyRecord


class _Answer(msgspec.Struct, frozen=True):
    """`asked_at_s`: when the question was put, as a row revoked right after it may still be in the answer."""

    record: KeyRecord | None
    asked_at_s: float


class KeyCache:
    """A `KeyLookup` in front of another. Answers are never older than `max_age_s`, counted from when they were asked.

    Unknown keys are remembered apart from known ones, so that guessing cannot push out those that work.
    """

    def __init__(
        self,
        lookup: KeyLookup,
        *,
        max_age_s: float,
        max_entries: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._known = _RecentAnswers(max_entries)
        self._unknown = _RecentAnswers(max(1, max_entries // 10))
        self._flights: dict[bytes, asyncio.Task[_Answer]] = {}

    async def find(self, key_hash: bytes) -> KeyRecord | None:
        """Raises: RetryableError when the look-up cannot answer in time; a failure is never remembered."""
        oldest_s = self._clock() - self._max_age_s
        answer = self._known.get(key_hash) or self._unknown.get(key_hash)
        while answer is None or answer.asked_at_s < oldest_s:
            answer = await self._join(key_hash)
        return answer.record

    async def close(self) -> None:
        """Cancel what is under way."""
        flights = [*self._flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _join(self, key_hash: bytes) -> _Answer:
        """One look-up a key at a time. It is a task of its own: the first asker may leave, the others still wait."""
        flight = self._flights.get(key_hash)
        if flight is None or flight.done():  # done and not landed yet: awaiting it again would never let it land
            flight = asyncio.create_task(self._ask(key_hash), name="key-lookup")
            self._flights[key_hash] = flight
            flight.add_done_callback(lambda done: self._landed(key_hash, done))
        try:
            return await asyncio.shield(flight)
        except RetryableError as exc:  # many askers: each its own exception, as a shared one collects all tracebacks
            raise RetryableError(exc.message, retry_after_s=exc.retry_after_s) from None

    async def _ask(self, key_hash: bytes) -> _Answer:
        asked_at_s = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                record = await self._lookup.find(key_hash)
        except TimeoutError:
            raise RetryableError("keys cannot be checked at the moment", retry_after_s=1) from None
        answer = _Answer(record, asked_at_s)
        (self._unknown if record is None else self._known).put(key_hash, answer)
        (self._known if record is None else self._unknown).drop(key_hash)
        return answer

    def _landed(self, key_hash: bytes, flight: asyncio.Task[_Answer]) -> None:
        if self._flights.get(key_hash) is flight:
            del self._flights[key_hash]
        if not flight.cancelled():
            flight.exception()  # seen, even when every asker has left


class _RecentAnswers:
    """At most `max_entries`, least recently used go first."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()

    def get(self, key_hash: bytes) -> _Answer | None:
        answer = self._answers.get(key_hash)
        if answer is not None:
            self._answers.move_to_end(key_hash)
        return answer

    def put(self, key_hash: bytes, answer: _Answer) -> None:
        self._answers[key_hash] = answer
        self._answers.move_to_end(key_hash)
        if len(self._answers) > self._max_entries:
            self._answers.popitem(last=False)

    def drop(self, key_hash: bytes) -> None:
        self._answers.pop(key_hash, None)
