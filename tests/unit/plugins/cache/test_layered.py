"""Two replicas' caches on one Valkey: what one sets the other finds, what one drops the other drops."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar import get

from cache_replicas import Producer, failing, name_in_valkey, replicas
from plugins.cache.batches import MAX_CALLS
from plugins.cache.envelope import packed
from plugins.cache.keys import create_key, tag_key
from plugins.cache.layered import WAIT_S
from plugins.cache.plugin import CachePlugin
from plugins.cache.scripts import LOG_LENGTH, PREFIX
from plugins.cache.valkey_level import LEASE_S, NAME
from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import CircuitOpen
from plugins.contract.nulls import NullGuard
from plugins.contract.principal import TenantId
from unit.plugins.harness import FakeClock, RecordingMeter, build, eventually, serving
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("PERF-1")

T = TypeVar("T")
TENANT, OTHER = TenantId(uuid.UUID(int=1)), TenantId(uuid.UUID(int=2))


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """This file's own: it is emptied, made a replica, and told that it is full."""
    with running_valkey() as running:
        yield running


@pytest.fixture
def key() -> str:
    return create_key(TENANT, uuid.uuid4().hex, [])


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


async def test_nothing_of_one_tenant_is_found_by_another(server: ValkeyServer) -> None:
    """Every key in Valkey that holds a value has the tenant in it; so have tags."""
    async with replicas(server.url) as (one, other):
        place = uuid.uuid4().hex
        await one.cache.set(create_key(TENANT, place, ["a"]), b"mine", ttl_s=60, tags=["t"])
        assert await other.cache.get(create_key(OTHER, place, ["a"])) is None
        await other.cache.drop(OTHER, "t")
        assert await other.cache.get(create_key(TENANT, place, ["a"])) == b"mine"
        assert tag_key(str(TENANT), "t") != tag_key(str(OTHER), "t")


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
        await other.level.give_back(key, turn)
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
