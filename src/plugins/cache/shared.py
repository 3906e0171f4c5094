"""The `SharedState` port on Valkey: Lua scripts by their digest, within one deadline, and no reply goes astray."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

from valkey import exceptions

from plugins.cache.address import Address
from plugins.cache.connection import Dialler, Resolve, ValkeyConnection, resolved
from plugins.contract.errors import RetryableError
from plugins.contract.nulls import NullMeter, NullSlowLog
from plugins.contract.ports import Meter, SlowLog

MAX_CONNECTIONS = 16
"""At 3 ms to and fro, as between zones, they carry 5,000 scripts a second; and 100 replicas stay far below the 10,000
clients that Valkey lets in by default."""

Text = str | bytes
Word = Text | int

_TIMED_OUT = ("timeout", "Valkey does not answer in time")
_FAILURES: tuple[tuple[type[exceptions.ValkeyError], str, str], ...] = (
    (exceptions.AuthenticationError, "refused", "Valkey refuses our credentials"),
    (exceptions.NoPermissionError, "refused", "Valkey refuses our credentials"),
    (exceptions.OutOfMemoryError, "full", "Valkey has no memory left"),
    (exceptions.ResponseError, "refused", "Valkey refused the script"),
    (exceptions.TimeoutError, *_TIMED_OUT),
    (exceptions.ConnectionError, "unreachable", "Valkey cannot be reached"),
    (exceptions.ValkeyError, "unreachable", "Valkey cannot be understood"),
)
"""What the library raises → the metric's label and what may be shown; the first that fits."""


class ValkeyState:
    """Opens connections when they are needed, and keeps those that are in order. For one event loop."""

    def __init__(
        self, address: Address, *, timeout_s: float, resolve: Resolve = resolved, operation: str = "run"
    ) -> None:
        """`timeout_s`: for a free connection, connecting and the answer, all together. `operation`: the metrics'."""
        self._timeout_s = timeout_s
        self._operation = operation
        self._dialler = Dialler(address, resolve)
        self._connect: Callable[[], ValkeyConnection] = lambda: ValkeyConnection(self._dialler.dial, address)
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[ValkeyConnection] = []
        self._closed = False
        self.observe_with(NullMeter(), NullSlowLog())

    def observe_with(self, meter: Meter, slow_log: SlowLog) -> None:
        """The state is given before meter and log are known; operations before this are not counted."""
        self._slow_log = slow_log
        self._operations = meter.counter(
            "valkey_operations_total",
            "Scripts that Valkey ran (run; cache: for the cache) or should have for a health check (probe), by result:"
            " ok, timeout, unreachable, refused (credentials or script) or full.",
            ("operation", "result"),
        )

    async def run(self, script: str, keys: Sequence[Text], arguments: Sequence[Word]) -> Sequence[object]:
        """Texts come as bytes. A script that returns no table gives a sequence of one."""
        reply = await self._within_deadline(self._operation, script, keys, arguments)
        return cast("list[object]", reply) if isinstance(reply, list) else [reply]

    async def probe(self) -> None:
        """Whether scripts are run. Raises: RetryableError."""
        await self._within_deadline("probe", "return 1", (), ())

    async def close(self) -> None:
        """What still runs ends by itself, and its connection is not kept."""
        self._closed = True
        self._drop_idle()
        await self._dialler.close()

    async def _within_deadline(
        self, operation: str, script: str, keys: Sequence[Text], arguments: Sequence[Word]
    ) -> object:
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._evaluated(script, keys, arguments)
        except TimeoutError as exc:
            raise self._failed(operation, *_TIMED_OUT) from exc
        except exceptions.ValkeyError as exc:
            result, message = next((result, said) for kind, result, said in _FAILURES if isinstance(exc, kind))
            raise self._failed(operation, result, message) from exc
        finally:
            self._slow_log.took("cache", f"valkey {operation}", (time.perf_counter() - began_s) * 1000)
        self._operations.add(1, operation, "ok")
        return reply

    async def _evaluated(self, script: str, keys: Sequence[Text], arguments: Sequence[Word]) -> object:
        async with self._places:
            connection = self._usable_connection()
            try:
                await connection.open()
                try:
                    reply = await connection.ask("EVALSHA", _digest(script), len(keys), *keys, *arguments)
                except exceptions.NoScriptError:  # a server that is new, or was restarted, learns it by the way
                    reply = await connection.ask("EVAL", script, len(keys), *keys, *arguments)
            except exceptions.ReadOnlyError:  # a primary no more: its name may mean another by now
                connection.abort()
                self._drop_idle()
                raise
            except exceptions.ResponseError:  # a whole reply, so nothing is left in the connection
                self._keep(connection)
                raise
            except BaseException:
                # Cancelled, too: the reply may still come, and must not be the next one's.
                connection.abort()
                raise
            self._keep(connection)
            return reply

    def _usable_connection(self) -> ValkeyConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        return self._connect()

    def _keep(self, connection: ValkeyConnection) -> None:
        if connection.is_usable and not self._closed:
            self._idle.append(connection)
        else:
            connection.abort()

    def _failed(self, operation: str, result: str, message: str) -> RetryableError:
        """When one connection is dead, so are the others that are idle: each would cost a time-out of its own."""
        if result in ("timeout", "unreachable"):
            self._drop_idle()
        self._operations.add(1, operation, result)
        return RetryableError(message)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()


@lru_cache(maxsize=64)  # of a few constants
def _digest(script: str) -> str:
    """What Valkey calls it."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
