"""Any cache, with each operation timed: one that is slow saves nothing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from plugins.contract.nulls import NullSlowLog
from plugins.contract.ports import Cache, SlowLog
from plugins.contract.principal import TenantId


class TimedCache:
    """The `Cache` port around another."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._slow_log: SlowLog = NullSlowLog()

    def observe_with(self, slow_log: SlowLog) -> None:
        """The cache is given before the log of slow operations is known."""
        self._slow_log = slow_log

    def create_key(self, tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
        return self._cache.create_key(tenant_id, namespace, parts)

    def peek(self, key: str) -> bytes | None:
        return self._cache.peek(key)

    async def get(self, key: str) -> bytes | None:
        began_s = time.perf_counter()
        try:
            return await self._cache.get(key)
        finally:
            self._slow_log.took("cache", "get", (time.perf_counter() - began_s) * 1000)

    async def set(self, key: str, value: bytes, *, ttl_s: float, tags: Sequence[str] = ()) -> None:
        began_s = time.perf_counter()
        try:
            await self._cache.set(key, value, ttl_s=ttl_s, tags=tags)
        finally:
            self._slow_log.took("cache", "set", (time.perf_counter() - began_s) * 1000)

    async def get_or_set(
        self,
        key: str,
        produce: Callable[[], Awaitable[bytes]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        tags: Sequence[str] = (),
    ) -> bytes:
        """Timed without the producer's time, and only where it produced: else it waited for another's."""
        began_s, produced_s = time.perf_counter(), None

        async def timed() -> bytes:
            nonlocal produced_s
            sent_s = time.perf_counter()
            try:
                return await produce()
            finally:
                produced_s = time.perf_counter() - sent_s

        try:
            return await self._cache.get_or_set(key, timed, ttl_s=ttl_s, stale_s=stale_s, tags=tags)
        finally:
            if produced_s is not None:
                self._slow_log.took("cache", "get_or_set", (time.perf_counter() - began_s - produced_s) * 1000)

    async def drop(self, tenant_id: TenantId, tag: str) -> None:
        began_s = time.perf_counter()
        try:
            await self._cache.drop(tenant_id, tag)
        finally:
            self._slow_log.took("cache", "drop", (time.perf_counter() - began_s) * 1000)
