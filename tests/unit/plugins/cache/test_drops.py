"""Two replicas' caches on one Valkey: what one drops is given by nobody who could know of it."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_replicas import TENANT, Producer, failing, name_in_valkey, replicas
from plugins.cache.keys import create_key, tag_key
from plugins.cache.scripts import LOG_LENGTH, PREFIX
from unit.plugins.harness import eventually
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("PERF-1")


async def test_what_one_drops_the_other_drops_at_its_next_beat(server: ValkeyServer, key: str) -> None:
    """From memory; what it would have to ask Valkey for is gone at once. Other tags' entries stay."""
    kept = key + "-kept"
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"value", ttl_s=60, tags=["t", "u"])
        await one.cache.set(kept, b"kept", ttl_s=60, tags=["u"])
        assert (await other.cache.get(key), await other.cache.get(kept)) == (b"value", b"kept")
        await one.cache.drop(TENANT, "t")
        assert await one.cache.get(key) is None
        async with replicas(server.url, 1) as (third,):
            assert await third.cache.get(key) is None
        await other.cache.beat()
        assert (await other.cache.get(key), await other.cache.get(kept)) == (None, b"kept")
        await one.cache.set(key, b"new", ttl_s=60, tags=["t", "u"])
        assert await other.cache.get(key) == b"new"


async def test_what_was_begun_before_a_drop_is_given_by_nobody_after_it(server: ValkeyServer, key: str) -> None:
    """Another replica drops the tag while it is made: who asked gets it, it is not kept, not even in Valkey."""
    producer = Producer(b"old", is_open=False)
    async with replicas(server.url) as (one, other):
        making = asyncio.create_task(one.cache.get_or_set(key, producer, ttl_s=60, tags=["t"]))
        await eventually(lambda: producer.n_asked == 1)
        await other.cache.drop(TENANT, "t")
        producer.gate.set()
        assert await making == b"old"
        assert await other.cache.get(key) is None
        await one.cache.beat()
        assert await one.cache.get(key) is None


async def test_an_emptied_valkey_takes_what_has_tags_with_it(server: ValkeyServer, key: str) -> None:
    """Drops may have been lost with it. What has no tags stays."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"tagged", ttl_s=60, tags=["t"])
        await one.cache.set(key + "-plain", b"plain", ttl_s=60)
        assert await other.cache.get(key) == b"tagged"
        await one.cache.drop(TENANT, "t")
        server.command("FLUSHALL")
        await other.cache.beat()
        assert await other.cache.get(key) is None
        assert await one.cache.get(key + "-plain") == b"plain"


async def test_who_is_too_far_behind_forgets_what_has_tags(server: ValkeyServer, key: str) -> None:
    """More drops than the log holds."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"value", ttl_s=60, tags=["t"])
        assert await other.cache.get(key) == b"value"
        await one.level.drop([f"x{n}" for n in range(LOG_LENGTH)])
        await other.cache.beat()
        assert await other.cache.get(key) == b"value"
        await one.level.drop([f"x{n}" for n in range(LOG_LENGTH + 1)])
        await other.cache.beat()
        assert other.memory.look(key) is None
        assert server.command("LLEN", f"{PREFIX}log").startswith(f":{LOG_LENGTH}\r")


async def test_an_old_state_is_not_trusted(server: ValkeyServer, key: str) -> None:
    """As from a backup: drops are missing in it, and their numbers would be given again."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"old", ttl_s=60, tags=["t"])
        before = server.command("HGET", f"{PREFIX}state", "seq").split("\r\n")[1]
        await one.cache.drop(TENANT, "t")
        await other.cache.beat()
        server.command("HSET", f"{PREFIX}state", "seq", before)
        server.command("DEL", name_in_valkey("t", tag_key(str(TENANT), "t")))
        await other.cache.beat()
        assert await other.cache.get(key) is None
        await one.cache.set(key, b"new", ttl_s=60, tags=["t"])
        assert await other.cache.get(key) == b"new"


async def test_drops_are_told_when_valkey_is_back(server: ValkeyServer, key: str) -> None:
    """What stood in it all the time is not given: by us never, by the others from then on."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"old", ttl_s=60, tags=["t"])
        assert await other.cache.get(key) == b"old"
        one.level.is_away = True
        await one.cache.drop(TENANT, "t")
        one.level.is_away = False
        assert await one.cache.get(key) is None
        with pytest.raises(ValueError, match="asked"):
            await one.cache.get_or_set(key, failing(ValueError("asked")), ttl_s=60, stale_s=1)
        one.level.is_away = True
        await one.cache.beat()
        await other.cache.beat()
        assert not one.level.is_away
        assert (await one.cache.get(key), await other.cache.get(key)) == (None, None)


async def test_with_too_many_drops_to_remember_all_that_has_tags_goes(server: ValkeyServer, key: str) -> None:
    """Memory is bounded; forgetting a drop is not the way."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"old", ttl_s=60, tags=["t"])
        assert await other.cache.get(key) == b"old"
        one.level.is_away = True
        await one.cache.drop(TENANT, "t")
        for n in range(10_001):
            await one.cache.drop(TENANT, str(n))
        one.level.is_away = False
        assert await one.cache.get(key) is None
        await one.cache.beat()
        await other.cache.beat()
        assert (await one.cache.get(key), await other.cache.get(key)) == (None, None)


steps = st.lists(
    st.tuples(st.sampled_from(["set", "make", "get", "drop", "beat", "away", "empty"]), st.integers(0, 1)), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_nothing_from_before_a_drop_is_given_by_who_could_know(
    server: ValkeyServer, done: list[tuple[str, int]]
) -> None:
    """Two replicas, any history, outages and emptied servers included. A drop is known to who made it at once; to the
    other once it was told, and the other had a beat."""
    made = 0
    last_drop = [0, 0]
    told = 0

    async def produce() -> bytes:
        nonlocal made
        made += 1
        return str(made).encode()

    async def run() -> None:
        nonlocal told
        key = create_key(TENANT, uuid.uuid4().hex, [])
        tag = uuid.uuid4().hex
        async with replicas(server.url) as both:
            for what, which in done:
                replica = both[which]
                if what == "set":
                    await replica.cache.set(key, await produce(), ttl_s=60, tags=[tag])
                elif what == "drop":
                    await replica.cache.drop(TENANT, tag)
                    last_drop[which] = made
                    if not replica.level.is_away:
                        told = max(told, made)
                elif what == "beat":
                    await replica.cache.beat()
                    told = max(told, last_drop[which])
                    last_drop[which] = max(last_drop[which], told)
                elif what == "away":
                    replica.level.is_away = True
                elif what == "empty":
                    server.command("FLUSHALL")
                elif what == "get":
                    found = await replica.cache.get(key)
                    assert found is None or int(found) > last_drop[which]
                else:
                    assert int(await replica.cache.get_or_set(key, produce, ttl_s=60, tags=[tag])) > last_drop[which]

    asyncio.run(run())
