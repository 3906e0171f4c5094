"""The cache in memory: its bound in bytes, its order, its clock."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import get

from plugins.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryCache
from plugins.cache.plugin import CachePlugin
from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import SettingsError
from plugins.contract.principal import TenantId
from unit.plugins.harness import FakeClock, RecordingMeter, build, eventually, serving

pytestmark = pytest.mark.requirement("PERF-1")

MAX_BYTES = 5 * ENTRY_OVERHEAD_BYTES
TENANT, OTHER = TenantId(UUID(int=1)), TenantId(UUID(int=2))

operations = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.integers(0, 900),
        st.floats(-1, 5),
        st.floats(0, 3),
        st.lists(st.sampled_from("tu"), max_size=1),
    ),
    max_size=40,
)


def cache(clock: FakeClock | None = None, *, max_bytes: int = MAX_BYTES, max_entry_bytes: int = 800) -> MemoryCache:
    """Without jitter."""
    return MemoryCache(
        max_bytes=max_bytes, max_entry_bytes=max_entry_bytes, clock=clock or FakeClock(), uniform=lambda: 0.0
    )


@given(operations)
def test_size_never_exceeds_the_bound_and_returns_to_zero(
    steps: list[tuple[str, int, float, float, list[str]]],
) -> None:
    """Whatever is stored, replaced, dropped or expires: the sum is right, and no book-keeping is left behind."""
    clock = FakeClock()
    memory = cache(clock)

    async def run() -> None:
        for key, n_bytes, ttl_s, pause_s, tags in steps:
            await memory.set(f"{TENANT}:{key}", b"x" * n_bytes, ttl_s=ttl_s, tags=tags)
            assert memory.size_bytes <= MAX_BYTES
            if ttl_s > 4:
                await memory.drop(TENANT, "t")
            stored = await memory.get(f"{TENANT}:{key}")
            assert stored is None or len(stored) == n_bytes
            clock.now_s += pause_s
        clock.now_s += 10
        memory.remove_expired()

    asyncio.run(run())
    assert (memory.size_bytes, len(memory), memory._by_expiry_s, memory._by_tag) == (0, 0, {}, {})


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_those_used_last_are_those_that_are_left(uses: list[tuple[str, bool]]) -> None:
    """Whatever is read and written: with room for three, the last three that were used."""
    memory = cache(max_bytes=3 * (ENTRY_OVERHEAD_BYTES + 2))
    used: list[str] = []

    async def run() -> None:
        for key, writes in uses:
            if writes:
                await memory.set(key, b"1", ttl_s=60)
            elif await memory.get(key) is None:
                assert key not in used
                continue
            used[:] = [*(one for one in used if one != key), key][-3:]
        assert [key for key in "abcdef" if memory.look(key)] == sorted(used)

    asyncio.run(run())


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


class Producer:
    """Gives its values one after the other, and fails when they are used up."""

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)
        self.n_asked = 0

    async def __call__(self) -> bytes:
        self.n_asked += 1
        if not self.values:
            raise ValueError("nothing left")
        return self.values.pop(0)


async def test_what_was_set_under_a_tag_goes_with_it() -> None:
    """With each of its tags; other tags' entries, and other tenants' under the same tag, stay."""
    memory = cache(max_bytes=100_000)
    kept = {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": []}
    for name, tags in kept.items():
        await memory.set(memory.create_key(TENANT, name, []), b"1", ttl_s=60, tags=tags)
        await memory.set(memory.create_key(OTHER, name, []), b"2", ttl_s=60, tags=tags)
    await memory.drop(TENANT, "x")
    assert [name for name in kept if await memory.get(memory.create_key(TENANT, name, []))] == ["c", "d"]
    assert [name for name in kept if await memory.get(memory.create_key(OTHER, name, []))] == list(kept)


async def test_a_stale_value_is_given_at_once_while_one_producer_runs() -> None:
    """For `stale_s` after its time by `get_or_set`, never by `get`; then the new one."""
    clock = FakeClock()
    memory, producer = cache(clock), Producer(b"1", b"2")

    async def asked() -> bytes:
        return await memory.get_or_set("k", producer, ttl_s=10, stale_s=5)

    assert await asked() == b"1"
    clock.now_s += 10
    assert await memory.get("k") is None
    assert [await asked() for _ in range(3)] == [b"1"] * 3
    await eventually(lambda: memory.look("k") is not None and memory.look("k").value == b"2")  # type: ignore[union-attr]
    assert await asked() == b"2"
    assert producer.n_asked == 2


async def test_a_producer_that_fails_is_asked_once_a_second_as_long_as_there_is_a_stale_value() -> None:
    """Nobody sees its failure until the stale time is over."""
    clock = FakeClock()
    memory, producer = cache(clock), Producer(b"1")

    async def asked() -> bytes:
        answer = await memory.get_or_set("k", producer, ttl_s=10, stale_s=5)
        for _ in range(5):
            await asyncio.sleep(0)
        return answer

    assert await asked() == b"1"
    clock.now_s += 10.5
    assert [await asked() for _ in range(5)] == [b"1"] * 5
    assert producer.n_asked == 2
    clock.now_s += 1
    assert [await asked() for _ in range(5)] == [b"1"] * 5
    assert producer.n_asked == 3
    clock.now_s += 5
    with pytest.raises(ValueError, match="nothing left"):
        await asked()


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 1000))
def test_what_is_produced_ends_up_to_a_tenth_earlier(random: float, ttl_s: float) -> None:
    """Never later than asked for; so values made together are not made anew together."""
    clock = FakeClock(0.0)
    memory = MemoryCache(max_bytes=10_000, max_entry_bytes=100, clock=clock, uniform=lambda: random)

    async def run() -> None:
        await memory.get_or_set("k", Producer(b"1"), ttl_s=ttl_s)
        entry = memory.look("k")
        assert entry is not None
        assert 0.9 * ttl_s <= entry.fresh_until_s <= ttl_s
        assert entry.fresh_until_s == pytest.approx(ttl_s * (1 - random / 10))

    asyncio.run(run())


async def test_what_is_dropped_while_it_is_produced_is_not_kept() -> None:
    """It may be made of what was there before. Who asked before gets it; who asks after the drop does not."""
    memory = cache(max_bytes=100_000)
    key, go = memory.create_key(TENANT, "n", []), asyncio.Event()
    producer = Producer(b"new")

    async def slow() -> bytes:
        await go.wait()
        return b"old"

    before = asyncio.create_task(memory.get_or_set(key, slow, ttl_s=60, tags=["t"]))
    await asyncio.sleep(0)
    await memory.drop(TENANT, "t")
    assert await memory.get_or_set(key, producer, ttl_s=60, tags=["t"]) == b"new"
    go.set()
    assert await before == b"old"
    assert await memory.get(key) == b"new"


steps = st.lists(st.tuples(st.sampled_from(["ask", "get", "drop"]), st.floats(0, 4)), max_size=30)


@given(steps)
def test_whatever_happens_a_value_is_as_old_as_it_may_be(done: list[tuple[str, float]]) -> None:
    """`get`: within its time; `get_or_set`: with the stale time; neither from before the tag's last drop."""
    clock = FakeClock(0.0)
    memory = cache(clock, max_bytes=100_000)
    key = memory.create_key(TENANT, "n", [])

    async def produce() -> bytes:
        return str(clock.now_s).encode()

    async def run() -> None:
        dropped_at_s = -1.0
        for what, pause_s in done:
            clock.now_s += pause_s
            if what == "drop":
                await memory.drop(TENANT, "t")
                dropped_at_s = clock.now_s
            elif what == "ask":
                made_at_s = float(await memory.get_or_set(key, produce, ttl_s=3, stale_s=2, tags=["t"]))
                assert made_at_s >= max(dropped_at_s, clock.now_s - 5)
            elif (found := await memory.get(key)) is not None:
                assert float(found) >= max(dropped_at_s, clock.now_s - 3)
            for _ in range(4):
                await asyncio.sleep(0)

    asyncio.run(run())


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


async def test_get_or_set_counts_by_how_the_value_was_come_by() -> None:
    """Hit, stale, joined, produced or failed; and what a tag took with it."""
    clock, meter = FakeClock(), RecordingMeter()
    memory = cache(clock, max_bytes=100_000)
    memory.observe_with(meter)
    await memory.get_or_set("k", Producer(b"1"), ttl_s=1, stale_s=9)
    await memory.get_or_set("k", Producer(), ttl_s=1, stale_s=9)
    clock.now_s += 1
    await memory.get_or_set("k", Producer(), ttl_s=1, stale_s=9)
    await eventually(lambda: meter.total["cache_operations_total", "get_or_set", "failed"] == 1)
    producer = Producer(b"1")
    await asyncio.gather(*(memory.get_or_set(f"{TENANT}:", producer, ttl_s=9, tags=["t"]) for _ in range(3)))
    await memory.drop(TENANT, "t")
    assert {name[1:]: n for name, n in meter.total.items()} == {
        ("get_or_set", "hit"): 1,
        ("get_or_set", "stale"): 1,
        ("get_or_set", "joined"): 2,
        ("get_or_set", "produced"): 2,
        ("get_or_set", "failed"): 1,
        ("set", "stored"): 2,
        ("evict", "dropped"): 1,
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
