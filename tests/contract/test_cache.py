"""What every `Cache` keeps, the null one included. A new implementation is one more row of `CACHES`."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable

import pytest

from plugins.cache.memory import MemoryCache
from plugins.contract.nulls import NullCache
from plugins.contract.ports import Cache
from plugins.contract.principal import TenantId

pytestmark = pytest.mark.requirement("PERF-1")

CACHES: dict[str, Callable[[], Cache]] = {
    "null": NullCache,
    "memory": lambda: MemoryCache(max_bytes=1 << 20, max_entry_bytes=1 << 16),
}
ONE, OTHER = TenantId(uuid.uuid4()), TenantId(uuid.uuid4())


@pytest.fixture(params=CACHES.values(), ids=CACHES)
def cache(request: pytest.FixtureRequest) -> Cache:
    made: Cache = request.param()
    return made


@pytest.fixture(params=[name for name in CACHES if name != "null"])
def keeping(request: pytest.FixtureRequest) -> Cache:
    return CACHES[request.param]()


async def test_what_was_never_stored_is_a_miss(cache: Cache) -> None:
    """None, not an exception."""
    assert await cache.get(cache.create_key(ONE, "chat", ["a"])) is None


async def test_what_was_stored_comes_back_or_is_a_miss(cache: Cache) -> None:
    """A cache may forget; it may not answer something else."""
    key = cache.create_key(ONE, "chat", ["a"])
    await cache.set(key, b"answer", ttl_s=60)
    assert await cache.get(key) in (b"answer", None)


@pytest.mark.parametrize("ttl_s", [0, -1.0])
async def test_what_has_no_time_left_is_a_miss(cache: Cache, ttl_s: float) -> None:
    """A time to live that is over stores nothing."""
    key = cache.create_key(ONE, "chat", ["a"])
    await cache.set(key, b"answer", ttl_s=ttl_s)
    assert await cache.get(key) is None


async def test_a_stored_value_comes_back_whole_until_it_is_replaced(keeping: Cache) -> None:
    """Any bytes, none included."""
    key = keeping.create_key(ONE, "chat", ["a"])
    for value in (b"", b"\x00\xff" * 1000, b"later"):
        await keeping.set(key, value, ttl_s=60)
        assert await keeping.get(key) == value


async def test_one_tenants_answer_is_never_anothers(keeping: Cache) -> None:
    """Same namespace, same parts, another tenant: a miss."""
    await keeping.set(keeping.create_key(ONE, "chat", ["a"]), b"mine", ttl_s=60)
    assert await keeping.get(keeping.create_key(OTHER, "chat", ["a"])) is None
    assert await keeping.get(keeping.create_key(ONE, "embeddings", ["a"])) is None
    assert await keeping.get(keeping.create_key(ONE, "chat", ["", "a"])) is None


def test_the_methods_are_the_ports(cache: Cache) -> None:
    """Names, parameters and their kinds."""
    for name in ("create_key", "get", "set"):
        port = inspect.signature(getattr(Cache, name)).parameters.values()
        made = inspect.signature(getattr(type(cache), name)).parameters.values()
        assert [(p.name, p.kind) for p in made] == [(p.name, p.kind) for p in port]
