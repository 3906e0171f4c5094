"""Two replicas' caches on one Valkey: what one sets the other finds, and one produces for both."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from litestar import get

from cache_replicas import TENANT, Producer, failing, name_in_valkey, replicas
from plugins.cache.batches import MAX_CALLS
from plugins.cache.envelope import packed
from plugins.cache.keys import create_key, tag_key
from plugins.cache.layered import WAIT_S
from plugins.cache.plugin import CachePlugin
from plugins.cache.scripts import PREFIX
from plugins.cache.valkey_level import LEASE_S, NAME
from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import CircuitOpen
from plugins.contract.nulls import NullGuard
from plugins.contract.principal import TenantId
from unit.plugins.harness import FakeClock, RecordingMeter, build, eventually, serving
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("PERF-1")

T = TypeVar("T")
OTHER = TenantId(uuid.UUID(int=2))


def number(reply: str) -> int:
    return int(reply.strip().removeprefix(":"))


async def test_what_one_sets_the_other_finds_for_the_rest_of_its_time(server: ValkeyServer, key: str) -> None:
    """Once: then it has it in memory, and not for longer than it would live in Valkey."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"value", ttl_s=60)
        server.command("PEXPIRE", name_in_valkey("e", key), "30000")
        for _ in range(3):
            assert await other.cache.get(key) == b"value"
        assert other.valkey_total("get", "hit") == 1
        entry = other.memory.look(key)
        assert entry is not None
        assert 0 < entry.fresh_until_s - time.monotonic() <= 30
        assert other.meter.total["cache_operations_total", "get", "hit"] == 3


async def test_what_was_set_meanwhile_is_newer_than_what_was_under_way(server: ValkeyServer, key: str) -> None:
    """The old value's reply comes after the new one was set: it must not take its place in memory."""
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"old", ttl_s=60)
        asking = asyncio.create_task(other.cache.get(key))
        await asyncio.sleep(0)
        await asyncio.gather(other.cache.set(key, b"new", ttl_s=60), asking)
        assert await other.cache.get(key) == b"new"


async def test_nothing_of_one_tenant_is_found_by_another(server: ValkeyServer) -> None:
    """Every key in Valkey that holds a value has the tenant in it; so have tags."""
    async with replicas(server.url) as (one, other):
        place = uuid.uuid4().hex
        await one.cache.set(create_key(TENANT, place, ["a"]), b"mine", ttl_s=60, tags=["t"])
        assert await other.cache.get(create_key(OTHER, place, ["a"])) is None
        await other.cache.drop(OTHER, "t")
        assert await other.cache.get(create_key(TENANT, place, ["a"])) == b"mine"
        assert tag_key(str(TENANT), "t") != tag_key(str(OTHER), "t")


async def test_one_producer_for_all_replicas(server: ValkeyServer, key: str) -> None:
    """And all who wait get its value, well before the producer's lease is over."""
    producer = Producer(is_open=False)
    async with replicas(server.url, 3) as all_of_them:
        asking = [
            asyncio.create_task(replica.cache.get_or_set(key, producer, ttl_s=60))
            for replica in all_of_them
            for _ in range(20)
        ]
        await eventually(lambda: sum(replica.valkey_total("get", "miss") for replica in all_of_them) >= 6)
        producer.gate.set()
        assert await asyncio.gather(*asking) == [b"made"] * 60
        assert producer.n_asked == 1
        assert server.command("EXISTS", name_in_valkey("l", key)).startswith(":0")


async def test_a_producer_that_fails_is_followed_by_the_next_replicas(server: ValkeyServer, key: str) -> None:
    """Its own callers get the error; nobody waits for its lease, and no error is kept."""
    async with replicas(server.url) as (one, other):
        with pytest.raises(ValueError, match="no"):
            await one.cache.get_or_set(key, failing(ValueError("no")), ttl_s=60)
        began_s = time.monotonic()
        assert await other.cache.get_or_set(key, Producer(), ttl_s=60) == b"made"
        assert time.monotonic() - began_s < LEASE_S
        assert await one.cache.get_or_set(key, failing(ValueError("no")), ttl_s=60) == b"made"


async def test_who_leaves_gives_the_turn_back(server: ValkeyServer, key: str) -> None:
    """Cancelled while it produces, with nobody else waiting."""
    producer = Producer(is_open=False)
    async with replicas(server.url) as (one, other):
        making = asyncio.create_task(one.cache.get_or_set(key, producer, ttl_s=60))
        await eventually(lambda: producer.n_asked == 1)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        assert await other.cache.get_or_set(key, Producer(b"next"), ttl_s=60) == b"next"


async def test_a_killed_producer_holds_up_the_others_for_its_lease_alone(server: ValkeyServer, key: str) -> None:
    """It does not renew it any more."""
    async with replicas(server.url) as (killed, other):
        turn = await killed.level.begin(key, "token", stale_will_do=True)
        assert turn is not None
        assert turn.is_ours
        lock = name_in_valkey("l", key)
        assert 0 < number(server.command("PTTL", lock)) <= LEASE_S * 1000
        waiting = asyncio.create_task(other.cache.get_or_set(key, Producer(), ttl_s=60))
        await eventually(lambda: other.valkey_total("get", "miss") > 1)
        server.command("PEXPIRE", lock, "1")
        assert await waiting == b"made"


async def test_a_producer_that_works_keeps_its_turn(server: ValkeyServer, key: str) -> None:
    """Longer than a lease: it is renewed; and only its own."""
    clock, producer = FakeClock(), Producer(is_open=False)
    async with replicas(server.url, clock=clock) as (one, other):
        making = asyncio.create_task(one.cache.get_or_set(key, producer, ttl_s=60))
        await eventually(lambda: producer.n_asked == 1)
        lock = name_in_valkey("l", key)
        server.command("PEXPIRE", lock, "2000")
        await eventually(lambda: number(server.command("PTTL", lock)) > 2000)
        turn = await other.level.begin(key, "another", stale_will_do=True)
        assert turn is not None
        assert not turn.is_ours
        await other.level.give_back(key, turn.token)
        assert server.command("EXISTS", lock).startswith(":1")
        producer.gate.set()
        assert await making == b"made"


async def test_a_producer_that_hangs_is_waited_for_so_long_and_no_longer(server: ValkeyServer, key: str) -> None:
    """Though it is alive: then the others produce, too."""
    clock = FakeClock()
    async with replicas(server.url, clock=clock) as (one, other):
        await one.level.begin(key, "token", stale_will_do=True)
        server.command("PERSIST", name_in_valkey("l", key))
        began_s = clock.now_s
        assert await other.cache.get_or_set(key, Producer(), ttl_s=60) == b"made"
        assert WAIT_S <= clock.now_s - began_s < WAIT_S + 1
        assert await one.cache.get(key) == b"made"


async def test_a_stale_value_in_valkey_is_given_at_once_and_made_anew_by_one(server: ValkeyServer, key: str) -> None:
    """Whatever memory it is in; `get` does not give it."""
    async with replicas(server.url) as (one, other):
        await one.cache.get_or_set(key, Producer(b"old"), ttl_s=0.001, stale_s=60)
        await eventually(lambda: number(server.command("PTTL", name_in_valkey("e", key))) < 60_000)
        assert await other.cache.get(key) is None
        new = Producer(b"new", is_open=False)
        for replica in (one, other, one, other):
            assert await replica.cache.get_or_set(key, new, ttl_s=60, stale_s=60) == b"old"
        await eventually(lambda: new.n_asked == 1)
        new.gate.set()
        await eventually(lambda: all((entry := r.memory.look(key)) and entry.value == b"new" for r in (one, other)))
        assert new.n_asked == 1
        assert await other.cache.get(key) == b"new"


async def test_long_values_are_shorter_in_valkey(server: ValkeyServer, key: str) -> None:
    """And the same for whoever gets them."""
    value = b'{"role":"assistant","content":"and so on"}' * 1000
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, value, ttl_s=60)
        assert number(server.command("HSTRLEN", name_in_valkey("e", key), "v")) < len(value) / 10
        assert await other.cache.get(key) == value


def scripts_run(server: ValkeyServer) -> int:
    line = next(line for line in server.command("INFO", "commandstats").splitlines() if "cmdstat_evalsha:" in line)
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_what_is_asked_at_once_goes_together(server: ValkeyServer, key: str) -> None:
    """Two thousand sets and gets of the vectors of one batch are a few round trips, and nobody's is lost or swapped."""
    keys = [f"{key}-{n}" for n in range(2000)]
    async with replicas(server.url) as (one, other):
        before = scripts_run(server)
        await asyncio.gather(*(one.cache.set(k, k.encode(), ttl_s=60, tags=["t"]) for k in keys))
        found = await asyncio.gather(*(other.cache.get(k) for k in [*keys, "no:such"]))
        assert found == [*(k.encode() for k in keys), None]
        assert scripts_run(server) - before <= 2 * (2000 // MAX_CALLS + 1) + 4


async def test_turns_are_asked_for_together(server: ValkeyServer, key: str) -> None:
    """Each gets its own: to produce what is not there, else what is."""
    keys = [f"{key}-{n}" for n in range(500)]
    async with replicas(server.url) as (one, other):
        await asyncio.gather(*(one.cache.set(k, k.encode(), ttl_s=60) for k in keys[::2]))
        before = scripts_run(server)
        made = Producer()
        found = await asyncio.gather(*(other.cache.get_or_set(k, made, ttl_s=60) for k in keys))
        assert found == [b"made" if n % 2 else k.encode() for n, k in enumerate(keys)]
        assert made.n_asked == 250
        assert scripts_run(server) - before <= 500 // MAX_CALLS + 1 + 250 // MAX_CALLS + 1 + 4
        assert await asyncio.gather(*(one.cache.get(k) for k in keys)) == found


async def test_many_long_values_come_in_parts(server: ValkeyServer, key: str) -> None:
    """No reply is much longer than a megabyte, however many are asked for; who leaves takes nothing from the rest."""
    values = {f"{key}-{n}": os.urandom(200_000) for n in range(12)}
    async with replicas(server.url) as (one, other):
        await asyncio.gather(*(one.cache.set(k, value, ttl_s=60) for k, value in values.items()))
        before = scripts_run(server)
        leaving = asyncio.create_task(other.cache.get(next(iter(values))))
        asking = [asyncio.create_task(other.cache.get(k)) for k in values]
        await asyncio.sleep(0)
        leaving.cancel()
        assert await asyncio.gather(*asking) == list(values.values())
        assert 3 <= scripts_run(server) - before <= 5
    async with replicas(server.url, 1, memory_bytes=1) as (other,):
        before, made = scripts_run(server), Producer()
        found = await asyncio.gather(*(other.cache.get_or_set(k, made, ttl_s=60) for k in values))
        assert (found, made.n_asked) == (list(values.values()), 0)
        assert 2 <= scripts_run(server) - before <= 4


@pytest.mark.parametrize(
    "fields", [{"v": "Wc\x02nonsense"}, {"v": ""}, {"g": None}, {"v": "x" * 600_000}, {"type": ""}]
)
async def test_what_is_not_ours_in_valkey_is_a_miss(
    server: ValkeyServer, key: str, fields: dict[str, str | None]
) -> None:
    """Another format, a part missing, too long, of another type: and it is replaced."""
    name = name_in_valkey("e", key)
    async with replicas(server.url) as (one, other):
        await one.cache.set(key, b"value", ttl_s=60)
        for field, text in fields.items():
            if field == "type":
                server.command("DEL", name)
                server.command("SET", name, "text")
            elif text is None:
                server.command("HDEL", name, field)
            else:
                server.command("HSET", name, field, text)
        assert await other.cache.get(key) is None
        assert await other.cache.get_or_set(key, Producer(), ttl_s=60) == b"made"
        assert await one.cache.get_or_set(key, Producer(), ttl_s=60) == b"value"
        assert await other.cache.get(key) == b"made"


class Recording(NullGuard):
    """A guard that refuses when told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.back: list[str] = []
        self.is_open = False

    async def call(
        self, name: str, attempt: Callable[[], Awaitable[T]], *, retry: bool, deadline_s: float | None = None
    ) -> T:
        assert not retry
        self.names.append(name)
        if self.is_open:
            raise CircuitOpen("no")
        return await attempt()

    def recovered(self, name: str) -> None:
        self.back.append(name)


async def test_valkey_has_a_breaker_which_hears_when_it_is_back(server: ValkeyServer, key: str) -> None:
    """Open, it is a miss, and nothing is asked until the next beat."""
    guard = Recording()
    async with replicas(server.url, 1, guard=guard) as (one,):
        assert guard.back == [NAME]
        guard.is_open = True
        assert [await one.cache.get(key) for _ in range(3)] == [None] * 3
        assert guard.names == [NAME]
        await one.cache.beat()
        assert guard.back == [NAME] * 2
        guard.is_open = False
        await one.cache.set(key, b"value", ttl_s=60)
        assert one.valkey_total("set", "stored") == 1


async def test_what_another_release_wrote_is_not_even_asked_for() -> None:
    """The format is in every key, and in the value."""
    assert PREFIX == "{wattos:cache:1}:"
    assert (await packed(b"", compress_above_bytes=0))[:3] == b"Wc\x01"


@get("/")
async def index() -> None: ...


async def test_a_mounted_cache_shares_by_itself_and_ends_with_the_app(server: ValkeyServer, key: str) -> None:
    """With VALKEY_URL alone: it beats, finds what others set, hears what they drop, and leaves no task."""
    plugin = CachePlugin.from_env({"VALKEY_URL": server.url, "PLUGINS_CACHE_VALKEY_TIMEOUT_MS": "10000"})
    meter = RecordingMeter()
    cache = plugin.contribute(Capabilities()).cache
    assert {"cache-beat"}.isdisjoint(task.get_name() for task in asyncio.all_tasks())
    async with replicas(server.url, 1) as (other,):
        await other.cache.set(key, b"value", ttl_s=60, tags=["t"])
        async with serving(build([plugin], [index], given=Capabilities(meter=meter))):
            await eventually_is(b"value", lambda: cache.get(key))
            assert meter.total["cache_valkey_operations_total", "get", "hit"] == 1
            assert await cache.get_or_set(key, Producer(), ttl_s=60) == b"value"
            await other.cache.drop(TENANT, "t")
            await eventually_is(None, lambda: cache.get(key))
            assert meter.total["valkey_operations_total", "cache", "ok"] > 2
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("cache-")]


async def eventually_is(expected: bytes | None, found: Callable[[], Awaitable[bytes | None]]) -> None:
    deadline_s = time.monotonic() + 10
    while await found() != expected:
        assert time.monotonic() < deadline_s, "did not happen in time"
        await asyncio.sleep(0.02)
