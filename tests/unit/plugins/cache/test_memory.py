"""The cache in memory: its bound in bytes, its order, its clock."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import get

from plugins.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryCache
from plugins.cache.plugin import CachePlugin
from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import SettingsError
from unit.plugins.harness import FakeClock, RecordingMeter, build, eventually, serving

pytestmark = pytest.mark.requirement("PERF-1")

MAX_BYTES = 3 * ENTRY_OVERHEAD_BYTES

operations = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 900), st.floats(-1, 5), st.floats(0, 3)), max_size=40
)


def cache(clock: FakeClock | None = None, *, max_bytes: int = MAX_BYTES, max_entry_bytes: int = 800) -> MemoryCache:
    return MemoryCache(max_bytes=max_bytes, max_entry_bytes=max_entry_bytes, clock=clock or FakeClock())


@given(operations)
def test_size_never_exceeds_the_bound_and_returns_to_zero(steps: list[tuple[str, int, float, float]]) -> None:
    """Whatever is stored, replaced or expires: the sum is right, and no book-keeping is left behind."""
    clock = FakeClock()
    memory = cache(clock)

    async def run() -> None:
        for key, n_bytes, ttl_s, pause_s in steps:
            await memory.set(key, b"x" * n_bytes, ttl_s=ttl_s)
            assert memory.size_bytes <= MAX_BYTES
            stored = await memory.get(key)
            assert stored is None or len(stored) == n_bytes
            clock.now_s += pause_s
        clock.now_s += 10
        memory.remove_expired()

    asyncio.run(run())
    assert (memory.size_bytes, len(memory), memory._by_expiry_s) == (0, 0, {})


async def test_the_least_recently_used_entry_goes_first() -> None:
    """Reading keeps an entry young."""
    memory = cache(max_bytes=3 * (ENTRY_OVERHEAD_BYTES + 2))
    for key in "abc":
        await memory.set(key, b"1", ttl_s=60)
    await memory.get("a")
    await memory.set("d", b"1", ttl_s=60)
    assert [key for key in "abcd" if await memory.get(key)] == ["a", "c", "d"]


async def test_an_entry_is_gone_when_its_time_is_over() -> None:
    """To the moment, whether its memory was freed or not."""
    clock = FakeClock()
    memory = cache(clock)
    await memory.set("a", b"1", ttl_s=10)
    clock.now_s += 9.99
    assert await memory.get("a") == b"1"
    clock.now_s += 0.01
    assert await memory.get("a") is None
    clock.now_s += 1
    assert memory.remove_expired() == 1
    assert len(memory) == 0


async def test_an_entry_written_again_lives_for_its_new_time() -> None:
    """The old time does not remove it."""
    clock = FakeClock()
    memory = cache(clock)
    await memory.set("a", b"1", ttl_s=1)
    await memory.set("a", b"2", ttl_s=60)
    clock.now_s += 5
    assert memory.remove_expired() == 0
    assert await memory.get("a") == b"2"


async def test_a_value_that_is_too_long_replaces_nothing_but_ends_the_old_one() -> None:
    """One answer does not push out all others, and the outdated one is not served either."""
    memory = cache()
    await memory.set("a", b"1", ttl_s=60)
    await memory.set("b", b"1", ttl_s=60)
    await memory.set("a", b"x" * 801, ttl_s=60)
    assert await memory.get("a") is None
    assert await memory.get("b") == b"1"


async def test_every_operation_is_counted_by_its_result() -> None:
    """`cache_operations_total{operation,result}`."""
    clock, meter = FakeClock(), RecordingMeter()
    memory = cache(clock, max_bytes=2 * (ENTRY_OVERHEAD_BYTES + 2))
    memory.observe_with(meter)
    for key in "abc":
        await memory.set(key, b"1", ttl_s=1)
    await memory.get("a")
    await memory.get("c")
    await memory.set("d", b"1", ttl_s=0)
    clock.now_s += 3
    memory.remove_expired()
    assert meter.total == {
        ("cache_operations_total", "set", "stored"): 3,
        ("cache_operations_total", "evict", "full"): 1,
        ("cache_operations_total", "get", "miss"): 1,
        ("cache_operations_total", "get", "hit"): 1,
        ("cache_operations_total", "set", "refused"): 1,
        ("cache_operations_total", "evict", "expired"): 2,
    }


@get("/")
async def index() -> None: ...


async def test_a_mounted_cache_cleans_up_by_itself_and_stops_with_the_app() -> None:
    """Memory of expired entries is freed without any traffic; no task is left after the lifespan."""
    plugin = CachePlugin.from_env({"PLUGINS_CACHE_CLEANUP_INTERVAL_S": "0.01"})
    meter = RecordingMeter()
    capabilities = plugin.contribute(Capabilities())
    assert capabilities.cache_state == "miss"
    async with serving(build([plugin], [index], given=Capabilities(meter=meter))):
        await capabilities.cache.set("a", b"1", ttl_s=0.01)
        await eventually(lambda: meter.total["cache_operations_total", "evict", "expired"] == 1)
        assert [task for task in asyncio.all_tasks() if task.get_name() == "cache-clean-up"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "cache-clean-up"]


@pytest.mark.parametrize(
    ("env", "culprit"),
    [
        ({"PLUGINS_CACHE_MAX_BYTES": "many"}, "PLUGINS_CACHE_MAX_BYTES='many'"),
        ({"PLUGINS_CACHE_MAX_BYTES": "2048"}, "PLUGINS_CACHE_MAX_ENTRY_BYTES=1048576"),
        ({"PLUGINS_CACHE_CLEANUP_INTERVAL_S": "0"}, "PLUGINS_CACHE_CLEANUP_INTERVAL_S='0'"),
    ],
)
def test_start_is_refused_for_settings_that_cannot_be(env: dict[str, str], culprit: str) -> None:
    """The message names variable and value."""
    with pytest.raises(SettingsError, match=culprit):
        CachePlugin.from_env(env)
