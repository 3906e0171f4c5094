"""The `Cache` port in memory: least recently used entries go first, bounded in bytes, each entry for its time."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from plugins.cache.flights import Flight, Flights
from plugins.cache.keys import create_key, tag_key, tag_keys
from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Counter, Meter
from plugins.contract.principal import TenantId

T = TypeVar("T")

ENTRY_OVERHEAD_BYTES = 400
"""Of an entry beside key and value: 314 by tracemalloc at 20,000 entries (Python 3.11), and room for tables to grow."""

TAG_OVERHEAD_BYTES = 500
"""Of an entry's tag: 406 by tracemalloc when no other entry has it, 275 of one that all have, and room for tables."""

JITTER = 0.1
"""What `get_or_set` keeps ends up to a tenth before its time: what was made together is not made anew together."""

REFRESH_PAUSE_S = 1.0
"""Between two attempts to replace one stale value: a producer that fails is not asked at each request."""


class Entry(msgspec.Struct, gc=False):
    """`get` gives it until `fresh_until_s`, `get_or_set` until `expires_at_s`, all by the cache's clock."""

    value: bytes
    fresh_until_s: float
    expires_at_s: float
    refresh_at_s: float
    """When the next may try to replace it."""
    size_bytes: int
    tags: tuple[str, ...]


class MemoryCache:
    """For one event loop. What is not a coroutine does not wait, so no two calls interleave."""

    def __init__(
        self,
        *,
        max_bytes: int,
        max_entry_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._clock = clock
        self._uniform = uniform
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._by_expiry_s: dict[int, set[str]] = {}
        """Keys by the whole second at which they have expired: those that have not are never looked at."""
        self._by_tag: dict[str, set[str]] = {}
        self._size_bytes = 0
        self._flights = Flights()
        self.observe_with(NullMeter())

    @property
    def size_bytes(self) -> int:
        """Of all entries, keys and book-keeping included: never over `max_bytes`."""
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def observe_with(self, meter: Meter) -> None:
        """The cache is given before the meter is known; operations before this are not counted."""
        self._operations = operations_of(meter)

    def create_key(self, tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
        return create_key(tenant_id, namespace, parts)

    def peek(self, key: str) -> bytes | None:
        """Counted if it is there: else whoever needs it goes on to `get` or `get_or_set`."""
        entry = self._entries.get(key)
        if entry is None or entry.fresh_until_s <= self._clock():
            return None
        self._entries.move_to_end(key)
        self._operations.add(1, "get", "hit")
        return entry.value

    async def get(self, key: str) -> bytes | None:
        value = self.peek(key)
        if value is None:
            self._operations.add(1, "get", "miss")
        return value

    async def set(self, key: str, value: bytes, *, ttl_s: float, tags: Sequence[str] = ()) -> None:
        """A value that is too long, or whose time is over already, replaces nothing but removes what was there."""
        self.keep(key, value, ttl_s=ttl_s, tags=tag_keys(key, tags))

    async def get_or_set(
        self,
        key: str,
        produce: Callable[[], Awaitable[bytes]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        tags: Sequence[str] = (),
    ) -> bytes:
        """What is produced is kept for `ttl_s` or up to a tenth less."""
        found = self.look(key)
        if found is not None and self.is_fresh(found):
            self._operations.add(1, "get_or_set", "hit")
            return found.value
        scoped = tag_keys(key, tags)

        async def produced(flight: Flight) -> bytes:
            try:
                value = await produce()
            except Exception:
                self._operations.add(1, "get_or_set", "failed")
                raise
            self._operations.add(1, "get_or_set", "produced")
            if not flight.is_outdated:
                self.keep(key, value, ttl_s=self.jittered_s(ttl_s), stale_s=stale_s, tags=scoped)
            return value

        if found is None:
            if key in self._flights:
                self._operations.add(1, "get_or_set", "joined")
            return await self._flights.join(key, scoped, produced)
        self._operations.add(1, "get_or_set", "stale")
        if self.may_refresh(found):
            self._flights.start(key, scoped, produced)
        return found.value

    async def drop(self, tenant_id: TenantId, tag: str) -> None:
        self.drop_tag(tag_key(str(tenant_id), tag))

    def look(self, key: str) -> Entry | None:
        """Fresh or stale. Not counted."""
        entry = self._entries.get(key)
        if entry is None or entry.expires_at_s <= self._clock():
            return None
        self._entries.move_to_end(key)
        return entry

    def is_fresh(self, entry: Entry) -> bool:
        return entry.fresh_until_s > self._clock()

    def may_refresh(self, entry: Entry) -> bool:
        """Whether this stale one should be replaced, by whoever asked; the next is told so a second later."""
        now_s = self._clock()
        if entry.refresh_at_s > now_s:
            return False
        entry.refresh_at_s = now_s + REFRESH_PAUSE_S
        return True

    def jittered_s(self, ttl_s: float) -> float:
        return ttl_s * (1 - JITTER * self._uniform())

    def keep(self, key: str, value: bytes, *, ttl_s: float, stale_s: float = 0.0, tags: tuple[str, ...] = ()) -> bool:
        """`tags`: as `tag_keys` makes them. `ttl_s` under 0: it has been stale for so long. Returns: whether it is
        kept."""
        self._remove(key)
        size_bytes = len(value) + len(key) + ENTRY_OVERHEAD_BYTES + len(tags) * TAG_OVERHEAD_BYTES
        if ttl_s + stale_s <= 0 or len(value) > self._max_entry_bytes or size_bytes > self._max_bytes:
            self._operations.add(1, "set", "refused")
            return False
        while self._size_bytes + size_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._operations.add(1, "evict", "full")
        fresh_until_s = self._clock() + ttl_s
        expires_at_s = fresh_until_s + stale_s if stale_s > 0 else fresh_until_s
        self._entries[key] = Entry(value, fresh_until_s, expires_at_s, fresh_until_s, size_bytes, tags)
        self._by_expiry_s.setdefault(int(expires_at_s) + 1, set()).add(key)
        for tag in tags:
            self._by_tag.setdefault(tag, set()).add(key)
        self._size_bytes += size_bytes
        self._operations.add(1, "set", "stored")
        return True

    def drop_tag(self, tag: str | None) -> None:
        """`tag`: as `tag_key` makes it; None: whatever has any."""
        self._flights.outdate(tag)
        tags = list(self._by_tag) if tag is None else [tag]
        n_dropped = 0
        for one in tags:
            for key in list(self._by_tag.get(one, ())):
                self._remove(key)
                n_dropped += 1
        if n_dropped:
            self._operations.add(n_dropped, "evict", "dropped")

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

    async def close(self) -> None:
        """End what is being produced."""
        await self._flights.close()

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._size_bytes -= entry.size_bytes
        _discard(self._by_expiry_s, int(entry.expires_at_s) + 1, key)
        for tag in entry.tags:
            _discard(self._by_tag, tag, key)


def _discard(index: dict[T, set[str]], at: T, key: str) -> None:
    keys = index[at]
    keys.discard(key)
    if not keys:
        del index[at]


def operations_of(meter: Meter) -> Counter:
    """What each level counts."""
    return meter.counter(
        "cache_operations_total",
        "Cache operations by result: get hit or miss, set stored or refused (too long, or over already), evict full,"
        " expired or dropped (by tag), get_or_set hit, shared (found in Valkey), stale, joined (another's producing),"
        " produced or failed.",
        ("operation", "result"),
    )
