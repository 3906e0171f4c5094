"""All connections of one server: how many may be open, and how long one may wait for its next request.

uvicorn's own bound (`limit_concurrency`) answers 503 to whoever comes last, liveness probes included. Here a full house
lets the connection go that has been waiting longest: 200 that dribble their headers lose against one request that is
there. Refused is only who comes while every connection is at work.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("http")

SWEEPS_PER_TIMEOUT = 4
"""How late a time-out may be: a quarter."""

MAX_SWEEP_S = 1.0


class Waiting(Protocol):
    """A connection that can be told to end."""

    def time_out(self) -> None:
        """Its next request did not come in time."""
        ...

    def make_room(self) -> None:
        """Another one needs its place."""
        ...


class Connections:
    """Counts and times. Costs a request four dictionary operations and no timer."""

    def __init__(self, *, max_connections: int, header_timeout_s: float, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self.header_timeout_s = header_timeout_s
        self._max_connections = max_connections
        self._clock = clock
        self._open: set[Waiting] = set()
        self._waiting: dict[Waiting, float] = {}
        """Since when, oldest first."""
        self._sweep: asyncio.TimerHandle | None = None

    def opened(self, connection: Waiting) -> bool:
        """Returns: whether there is room for it."""
        if len(self._open) >= self._max_connections:
            if not self._waiting:
                return False
            longest = next(iter(self._waiting))
            self.closed(longest)
            longest.make_room()
        self._open.add(connection)
        self.waits(connection)
        return True

    def waits(self, connection: Waiting) -> None:
        """For a request, or its headers, from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = self._clock()
        if self._sweep is None:
            self._plan()

    def works(self, connection: Waiting) -> None:
        """Its headers are there."""
        self._waiting.pop(connection, None)

    def closed(self, connection: Waiting) -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def _plan(self) -> None:
        delay_s = min(MAX_SWEEP_S, self.header_timeout_s / SWEEPS_PER_TIMEOUT)
        self._sweep = asyncio.get_running_loop().call_later(delay_s, self._close_expired)

    def _close_expired(self) -> None:
        self._sweep = None
        latest_s = self._clock() - self.header_timeout_s
        for connection in [one for one, since_s in self._waiting.items() if since_s <= latest_s]:
            self.closed(connection)
            connection.time_out()
        if self._waiting:
            self._plan()


RESERVED_FILES = 512
"""Beside connections: those to Postgres, to targets, and uploads under way."""


def allow_open_files(max_connections: int) -> None:
    """Raise this process's limit on open files, often 1,024, to what its connections need: else `accept` fails."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + RESERVED_FILES
    if now >= needed:
        return
    allowed = needed if most == resource.RLIM_INFINITY else min(needed, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    if allowed < needed:
        logger.warning(
            "MAX_CONNECTIONS=%d needs %d open files, and this process may have %d", max_connections, needed, most
        )
