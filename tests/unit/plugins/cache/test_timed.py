"""A cache that is slow is heard of."""

from __future__ import annotations

import asyncio

import pytest

from plugins.cache.memory import MemoryCache
from plugins.cache.timed import TimedCache
from unit.plugins.harness import RecordingSlowLog


@pytest.mark.requirement("OBS-3")
async def test_each_operation_is_timed_and_passes_through() -> None:
    """By its name, never by its key."""
    slow_log = RecordingSlowLog()
    cache = TimedCache(MemoryCache(max_bytes=10_000, max_entry_bytes=1_000))
    cache.observe_with(slow_log)
    await cache.set("key", b"value", ttl_s=60)
    assert await cache.get("key") == b"value"
    assert [(kind, name) for kind, name, _ in slow_log.heard] == [("cache", "set"), ("cache", "get")]
    assert all(0 <= duration_ms < 1000 for *_, duration_ms in slow_log.heard)


@pytest.mark.requirement("OBS-3")
async def test_what_the_producer_takes_is_not_the_caches() -> None:
    """Where it produced; what another produced was waited for."""
    slow_log = RecordingSlowLog()
    cache = TimedCache(MemoryCache(max_bytes=10_000, max_entry_bytes=1_000))
    cache.observe_with(slow_log)

    async def produce() -> bytes:
        await asyncio.sleep(0.2)
        return b"made"

    for _ in range(2):
        assert await cache.get_or_set("key", produce, ttl_s=60) == b"made"
    ((kind, name, duration_ms),) = slow_log.heard
    assert (kind, name) == ("cache", "get_or_set")
    assert 0 <= duration_ms < 200
