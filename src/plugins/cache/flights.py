"""One computation a key at a time in this process, for all who wait for it: single flight. Knows nothing of values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from plugins.contract.errors import RetryableError


class Flight:
    """One computation that is on. It ends with the last who waits for it; one in the background ends by itself."""

    __slots__ = ("is_outdated", "n_waiting", "tags", "task")

    def __init__(self, tags: Iterable[str]) -> None:
        self.tags = frozenset(tags)
        self.n_waiting = 0
        self.is_outdated = False
        """A tag of it was dropped since it began: its result is given to those who asked before, and not kept."""
        self.task: asyncio.Task[bytes]


Work = Callable[[Flight], Awaitable[bytes]]


class Flights:
    """For one event loop."""

    def __init__(self) -> None:
        self._on: dict[str, Flight] = {}
        self._running: set[asyncio.Task[bytes]] = set()
        """Those that nobody may join any more, too."""

    def __contains__(self, key: str) -> bool:
        return key in self._on

    async def join(self, key: str, tags: Iterable[str], work: Work) -> bytes:
        """The result of the computation that is on, else of `work`. Who leaves does not end it for the others.

        Raises: what it raised, to all who wait.
        """
        flight = self._on.get(key) or self._begun(key, tags, work)
        flight.n_waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and not caller.cancelling():  # it was ended, not we
                raise RetryableError("what was waited for was given up") from None
            raise
        finally:
            flight.n_waiting -= 1
            if not flight.n_waiting and not flight.task.done():
                self._left(key, flight)
                flight.task.cancel()

    def start(self, key: str, tags: Iterable[str], work: Work) -> None:
        """In the background, unless one is on. Nobody hears of its failure."""
        if key not in self._on:
            self._begun(key, tags, work).n_waiting += 1  # it never leaves

    def outdate(self, tag: str | None) -> None:
        """What is on under this tag (None: under any) is not kept, and not given to those who ask from now on."""
        for key, flight in list(self._on.items()):
            if flight.tags if tag is None else tag in flight.tags:
                flight.is_outdated = True
                self._left(key, flight)

    async def close(self) -> None:
        """End all of them; who still waits gets a RetryableError."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begun(self, key: str, tags: Iterable[str], work: Work) -> Flight:
        flight = Flight(tags)

        async def computed() -> bytes:
            return await work(flight)

        def over(task: asyncio.Task[bytes]) -> None:
            self._left(key, flight)
            self._running.discard(task)
            if not task.cancelled():
                task.exception()  # known, even if all who waited are gone

        flight.task = asyncio.create_task(computed(), name="cache-flight")
        flight.task.add_done_callback(over)
        self._running.add(flight.task)
        self._on[key] = flight
        return flight

    def _left(self, key: str, flight: Flight) -> None:
        if self._on.get(key) is flight:
            del self._on[key]
