"""What changes in the database, heard on a connection of its own: the `ChangeFeed` port on LISTEN/NOTIFY.

A notification that is lost with its connection is not repeated. So an answer is vouched for only as far as the
connection it could be taken back on was heard without a break: a round trip four times a second shows that it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import psycopg
from psycopg import AsyncConnection

from app.database.server import CONNECT_TIMEOUT_S, plain_url

logger = logging.getLogger("database")

CHANNEL = "changes"
HEARTBEAT_S = 0.25
"""Four in the second after which a revoked key must be dead."""

SILENCE_S = 2.0
"""A connection that does not answer for so long is given up."""

AGAIN_S = 0.25
"""Before connecting anew; a database that is away refuses at once."""

MAX_HEARD = 16
"""Earlier connections that are remembered: answers from then may stand in while the database is away."""


class _Heard(NamedTuple):
    """A time without a break, in monotonic seconds."""

    since_s: float
    until_s: float


class ChangeListener:
    """Hears of changes while it is started. Callbacks are called on the loop, and must not wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.left_alone_until_s = float("-inf")
        self._callbacks: list[Callable[[bytes], None]] = []
        self._since_s = float("inf")
        self._until_s = float("-inf")
        self._before: deque[_Heard] = deque(maxlen=MAX_HEARD)
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, on_change: Callable[[bytes], None]) -> None:
        self._callbacks.append(on_change)

    def vouched_until(self, asked_at_s: float) -> float:
        if asked_at_s >= self._since_s:
            return max(asked_at_s, self._until_s)
        for since_s, until_s in reversed(self._before):
            if since_s <= asked_at_s:
                return max(asked_at_s, until_s)
        return asked_at_s

    def start(self, url: str) -> None:
        self._task = asyncio.create_task(self._listen_for_ever(plain_url(url)), name="changes")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen_for_ever(self, url: str) -> None:
        is_told = False
        while True:
            try:
                await self._listen(url)
            except (psycopg.Error, OSError, TimeoutError) as exc:
                if self._since_s <= self._until_s:  # it had been heard
                    self._before.append(_Heard(self._since_s, self._until_s))
                    is_told = False
                if not is_told:
                    logger.warning(
                        "changes are not heard, so the database is asked more often (%s)", type(exc).__name__
                    )
                    is_told = True
                self._since_s = float("inf")
            await asyncio.sleep(AGAIN_S)

    async def _listen(self, url: str) -> None:
        connection = await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="wattos changes"
        )
        try:
            async with asyncio.timeout(SILENCE_S):
                await connection.execute(f"listen {CHANNEL}".encode())
            self._since_s = self._clock()
            while True:
                asked_at_s = self._clock()
                async with asyncio.timeout(SILENCE_S):
                    await connection.execute("select 1")
                    await self._hear(connection, 0.0)  # what came with the answer
                self._until_s = asked_at_s
                await self._hear(connection, HEARTBEAT_S)
        finally:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    async def _hear(self, connection: AsyncConnection, for_s: float) -> None:
        """Each change as it comes."""
        async for notification in connection.notifies(timeout=for_s):
            try:
                handle = bytes.fromhex(notification.payload)
            except ValueError:
                continue  # somebody else's: anyone who may connect may notify
            for on_change in self._callbacks:
                on_change(handle)
