"""What every `Cache` keeps, the null one included. A new implementation is one more row of `CACHES`."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from plugins.cache.address import address_of
from plugins.cache.layered import LayeredCache
from plugins.cache.memory import MemoryCache
from plugins.cache.timed import TimedCache
from plugins.cache.valkey_level import ValkeyLevel
from plugins.contract.nulls import NullCache
from plugins.contract.ports import Cache
from plugins.contract.principal import TenantId
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("PERF-1")

PLENTY_BYTES = 1 << 20
TIMEOUT_S = 10.0
"""Nothing here is about time."""


@asynccontextmanager
async def null(_: ValkeyServer) -> AsyncIterator[Cache]:
    yield NullCache()


@asynccontextmanager
async def memory(_: ValkeyServer) -> AsyncIterator[Cache]:
    cache = MemoryCache(max_bytes=PLENTY_BYTES, max_entry_bytes=1 << 16)
    yield cache
    await cache.close()


@asynccontextmanager
async def layered(server: ValkeyServer, *, memory_bytes: int = PLENTY_BYTES) -> AsyncIterator[LayeredCache]:
    level = ValkeyLevel(address_of(server.url), timeout_s=TIMEOUT_S, max_entry_bytes=1 << 16, compress_above_bytes=1000)
    cache = LayeredCache(MemoryCache(max_bytes=memory_bytes, max_entry_bytes=1 << 16), level)
    await cache.beat()
    yield cache
    await cache.close()


@asynccontextmanager
async def valkey_alone(server: ValkeyServer) -> AsyncIterator[Cache]:
    """Nothing fits into its memory."""
    async with layered(server, memory_bytes=1) as cache:
        yield cache


@asynccontextmanager
async def without_valkey(server: ValkeyServer) -> AsyncIterator[Cache]:
    """It is away, from the start."""
    nobody = ValkeyServer(server.log.parent)
    async with layered(nobody) as cache:
        yield cache


CACHES: dict[str, Callable[[ValkeyServer], AbstractAsyncContextManager[Cache]]] = {
    "null": null,
    "memory": memory,
    "layered": layered,
    "valkey": valkey_alone,
    "without-valkey": without_valkey,
}
ONE, OTHER = TenantId(uuid.uuid4()), TenantId(uuid.uuid4())


@pytest.fixture(params=CACHES.values(), ids=CACHES)
async def cache(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[Cache]:
    async with request.param(valkey) as made:
        yield made


@pytest.fixture(params=[make for make in CACHES.values() if make is not null], ids=[n for n in CACHES if n != "null"])
async def keeping(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[Cache]:
    async with request.param(valkey) as made:
        yield made


@pytest.fixture
def place() -> str:
    """A namespace of the test's own: Valkey is everybody's."""
    return uuid.uuid4().hex


async def test_what_was_never_stored_is_a_miss(cache: Cache, place: str) -> None:
    """None, not an exception."""
    assert await cache.get(cache.create_key(ONE, place, ["a"])) is None


async def test_what_was_stored_comes_back_or_is_a_miss(cache: Cache, place: str) -> None:
    """A cache may forget; it may not answer something else."""
    key = cache.create_key(ONE, place, ["a"])
    await cache.set(key, b"answer", ttl_s=60)
    assert await cache.get(key) in (b"answer", None)


async def test_what_is_at_hand_is_what_is_there(cache: Cache, place: str) -> None:
    """Or nothing, which says nothing."""
    key = cache.create_key(ONE, place, ["a"])
    assert cache.peek(key) is None
    await cache.set(key, b"answer", ttl_s=60)
    assert cache.peek(key) in (await cache.get(key), None)
    await cache.set(key, b"other", ttl_s=60)
    assert cache.peek(key) in (b"other", None)
    await cache.set(key, b"over", ttl_s=-1)
    assert cache.peek(key) is None


@pytest.mark.parametrize("ttl_s", [0, -1.0])
async def test_what_has_no_time_left_is_a_miss(cache: Cache, place: str, ttl_s: float) -> None:
    """A time to live that is over stores nothing."""
    key = cache.create_key(ONE, place, ["a"])
    await cache.set(key, b"answer", ttl_s=ttl_s)
    assert await cache.get(key) is None


async def test_a_stored_value_comes_back_whole_until_it_is_replaced(keeping: Cache, place: str) -> None:
    """Any bytes, none included."""
    key = keeping.create_key(ONE, place, ["a"])
    for value in (b"", b"\x00\xff" * 1000, b"later"):
        await keeping.set(key, value, ttl_s=60)
        assert await keeping.get(key) == value


async def test_one_tenants_answer_is_never_anothers(keeping: Cache, place: str) -> None:
    """Same namespace, same parts, another tenant: a miss."""
    await keeping.set(keeping.create_key(ONE, place, ["a"]), b"mine", ttl_s=60)
    assert await keeping.get(keeping.create_key(OTHER, place, ["a"])) is None
    assert await keeping.get(keeping.create_key(ONE, "embeddings", ["a"])) is None
    assert await keeping.get(keeping.create_key(ONE, place, ["", "a"])) is None


async def test_get_or_set_gives_what_is_kept_or_what_is_produced(cache: Cache, place: str) -> None:
    """None at all included; what the producer raises is raised, and the next asks it again."""
    key, values = cache.create_key(ONE, place, ["a"]), [b"", b"later"]

    async def failing() -> bytes:
        raise ValueError("not kept")

    async def produce() -> bytes:
        return values.pop(0)

    for _ in range(2):
        with pytest.raises(ValueError, match="not kept"):
            await cache.get_or_set(key, failing, ttl_s=60, stale_s=60, tags=["t"])
    assert await cache.get_or_set(key, produce, ttl_s=60) == b""
    assert await cache.get_or_set(key, produce, ttl_s=60) in (b"", b"later")


async def test_a_dropped_tag_takes_all_with_it_that_was_set_under_it(cache: Cache, place: str) -> None:
    """Whichever way it was set; and what is set afterwards is kept again."""
    one, other = (cache.create_key(ONE, place, [name]) for name in "ab")

    async def produce() -> bytes:
        return b"produced"

    await cache.set(one, b"set", ttl_s=60, tags=["t", "u"])
    await cache.get_or_set(other, produce, ttl_s=60, tags=["t"])
    await cache.drop(ONE, "t")
    assert (await cache.get(one), await cache.get(other)) == (None, None)
    await cache.set(one, b"again", ttl_s=60, tags=["t"])
    assert await cache.get(one) in (b"again", None)


async def test_a_tag_is_its_tenants_own(keeping: Cache, place: str) -> None:
    """Another tenant's entries under the same name stay."""
    key = keeping.create_key(ONE, place, ["a"])
    await keeping.set(key, b"mine", ttl_s=60, tags=["t"])
    await keeping.drop(OTHER, "t")
    await keeping.drop(ONE, "other")
    assert await keeping.get(key) == b"mine"


async def test_of_many_who_ask_at_once_one_producer_runs(keeping: Cache, place: str) -> None:
    """All get what it gives."""
    n_asked = 0

    async def produce() -> bytes:
        nonlocal n_asked
        n_asked += 1
        await asyncio.sleep(0)
        return b"made"

    key = keeping.create_key(ONE, place, ["a"])
    assert await asyncio.gather(*(keeping.get_or_set(key, produce, ttl_s=60) for _ in range(50))) == [b"made"] * 50
    assert n_asked == 1


@pytest.mark.parametrize("kind", [NullCache, MemoryCache, LayeredCache, TimedCache])
def test_the_methods_are_the_ports(kind: type) -> None:
    """Names, parameters and their kinds."""
    for name in ("create_key", "get", "set", "get_or_set", "drop"):
        port = inspect.signature(getattr(Cache, name)).parameters.values()
        made = inspect.signature(getattr(kind, name)).parameters.values()
        assert [(p.name, p.kind) for p in made] == [(p.name, p.kind) for p in port]
