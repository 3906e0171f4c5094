"""Turns to produce: who left just then has none, and who hangs in one holds nobody up twice."""

from __future__ import annotations

import asyncio

import pytest

from cache_replicas import Producer, failing, name_in_valkey, replicas
from plugins.cache.hung import FOR_S, Hung
from plugins.cache.layered import WAIT_S
from plugins.cache.valkey_level import LEASE_S
from unit.plugins.harness import FakeClock
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("PERF-1")


async def test_who_leaves_while_a_turn_is_being_given_gives_it_back(server: ValkeyServer, key: str) -> None:
    """Valkey has given it, and nobody has heard so."""
    producer = Producer()
    async with replicas(server.url) as (one, other):
        server.freeze()
        making = asyncio.create_task(one.cache.get_or_set(key, producer, ttl_s=60))
        await asyncio.sleep(0.05)  # it is on the wire
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        server.thaw()
        assert producer.n_asked == 0
        assert await asyncio.wait_for(other.cache.get_or_set(key, Producer(b"next"), ttl_s=60), LEASE_S / 2) == b"next"


async def test_a_producer_that_hangs_is_waited_for_once(server: ValkeyServer, key: str) -> None:
    """Whoever then produces in vain has nothing to give to the next, who must not wait for it as long again."""
    clock = FakeClock()
    async with replicas(server.url, clock=clock) as (one, other):
        await one.level.begin(key, "token", stale_will_do=True)
        server.command("PERSIST", name_in_valkey("l", key))
        for waits_s in (WAIT_S, 0.0):
            began_s = clock.now_s
            with pytest.raises(LookupError):
                await other.cache.get_or_set(key, failing(LookupError("not this time")), ttl_s=60)
            assert waits_s <= clock.now_s - began_s <= waits_s + 1


def test_it_is_forgotten_after_a_while() -> None:
    """And takes no memory any more once others follow."""
    clock = FakeClock()
    hung = Hung(clock)
    hung.add("a")
    clock.now_s += FOR_S / 2
    hung.add("b")
    assert (hung.has("a"), hung.has("b"), hung.has("c")) == (True, True, False)
    clock.now_s += FOR_S / 2
    assert (hung.has("a"), hung.has("b")) == (False, True)
