"""Caches of several replicas on one Valkey, for tests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from plugins.cache.address import address_of
from plugins.cache.layered import LayeredCache
from plugins.cache.memory import MemoryCache
from plugins.cache.scripts import PREFIX
from plugins.cache.valkey_level import ValkeyLevel
from plugins.contract.nulls import NullGuard, NullSlowLog
from plugins.contract.ports import Guard
from plugins.contract.principal import TenantId
from unit.plugins.harness import FakeClock, RecordingMeter

TENANT = TenantId(uuid.UUID(int=1))

TIMEOUT_S = 20.0
"""Where nothing is about time."""


class Replica:
    """A cache and its parts. Its beat is the test's: `await replica.cache.beat()`."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        memory_bytes: int = 1 << 20,
        clock: FakeClock | None = None,
        guard: Guard | None = None,
        max_entry_bytes: int = 1 << 18,
    ) -> None:
        self.meter = RecordingMeter()
        timing = {"clock": clock} if clock else {}
        self.memory = MemoryCache(
            max_bytes=memory_bytes, max_entry_bytes=max_entry_bytes, uniform=lambda: 0.0, **timing
        )
        self.level = ValkeyLevel(
            address_of(url), timeout_s=timeout_s, max_entry_bytes=max_entry_bytes, compress_above_bytes=4096
        )
        waiting = {"clock": clock, "sleep": clock.sleep} if clock else {}
        self.cache = LayeredCache(self.memory, self.level, **waiting)
        self.cache.observe_with(self.meter, NullSlowLog(), guard or NullGuard())

    def valkey_total(self, operation: str, result: str) -> int:
        return self.meter.total["cache_valkey_operations_total", operation, result]


@asynccontextmanager
async def replicas(url: str, n: int = 2, **options: object) -> AsyncIterator[list[Replica]]:
    """They have had their first beat."""
    made = [Replica(url, **options) for _ in range(n)]  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        for replica in made:
            stack.push_async_callback(replica.cache.close)
            await replica.cache.beat()
        yield made


class Producer:
    """Counts its calls, and gives `value` once it may."""

    def __init__(self, value: bytes = b"made", *, is_open: bool = True) -> None:
        self.value = value
        self.n_asked = 0
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self) -> bytes:
        self.n_asked += 1
        await self.gate.wait()
        return self.value


def failing(error: Exception) -> Callable[[], Awaitable[bytes]]:
    async def produce() -> bytes:
        raise error

    return produce


def name_in_valkey(kind: str, key: str) -> str:
    return f"{PREFIX}{kind}:{key}"
