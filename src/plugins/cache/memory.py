"""The `Cache` port in memory: least recently used entries go first, bounded in bytes, each entry for its time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from plugins.cache.keys import create_key
from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Meter
from plugins.contract.principal import TenantId

ENTRY_OVERHEAD_BYTES = 400
"""Of an entry beside key and value: 314 by tracemalloc at 20,000 entries (Python 3.11), and room for tables to grow."""


class _Entry(msgspec.Struct, frozen=True, gc=False):
    value: bytes
    expires_at_s: float
    size_bytes: int


class MemoryCache:
    """For one event loop. No method waits, so no two calls interleave."""

    def __init__(self, *, max_bytes: int, max_entry_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._by_expiry_s: dict[int, set[str]] = {}
        """Keys by the whole second at which they have expired: those that have not are never looked at."""
        self._size_bytes = 0
        self.observe_with(NullMeter())

    @property
    def size_bytes(self) -> int:
        """Of all entries, keys and book-keeping included: never over `max_bytes`."""
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def observe_with(self, meter: Meter) -> None:
        """The cache is given before the meter is known; operations before this are not counted."""
        self._operations = meter.counter(
            "cache_operations_total",
            "Cache operations by result: get hit or miss, set stored or refused (too long, or over already), evict full"
            " or expired.",
            ("operation", "result"),
        )

    def create_key(self, tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
        return create_key(tenant_id, namespace, parts)

    async def get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None or entry.expires_at_s <= self._clock():
            self._operations.add(1, "get", "miss")
            return None
        self._entries.move_to_end(key)
        self._operations.add(1, "get", "hit")
        return entry.value

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """A value that is too long, or whose time is over already, replaces nothing but removes what was there."""
        self._remove(key)
        size_bytes = len(value) + len(key) + ENTRY_OVERHEAD_BYTES
        if ttl_s <= 0 or len(value) > self._max_entry_bytes or size_bytes > self._max_bytes:
            self._operations.add(1, "set", "refused")
            return
        while self._size_bytes + size_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._operations.add(1, "evict", "full")
        expires_at_s = self._clock() + ttl_s
        self._entries[key] = _Entry(value, expires_at_s, size_bytes)
        self._by_expiry_s.setdefault(int(expires_at_s) + 1, set()).add(key)
        self._size_bytes += size_bytes
        self._operations.add(1, "set", "stored")

    def remove_expired(self) -> int:
        """Free the memory of entries that nobody will be served. Returns: how many."""
        now_s = self._clock()
        expired = [key for second in [s for s in self._by_expiry_s if s <= now_s] for key in self._by_expiry_s[second]]
        for key in expired:
            self._remove(key)
        if expired:
            self._operations.add(len(expired), "evict", "expired")
        return len(expired)

    async def clean_up(self, interval_s: float) -> None:
        """Remove expired entries until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            self.remove_expired()

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._size_bytes -= entry.size_bytes
        second = int(entry.expires_at_s) + 1
        self._by_expiry_s[second].discard(key)
        if not self._by_expiry_s[second]:
            del self._by_expiry_s[second]
