"""What breakers of two replicas tell each other, through a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from plugins.cache.address import address_of
from plugins.cache.shared import ValkeyState
from plugins.contract.breakers import BreakerStatus
from plugins.contract.errors import CircuitOpen, RetryableError
from plugins.resilience.breaker import BreakerPolicy
from plugins.resilience.circuits import Circuits
from plugins.resilience.sharing import EVERY_S, JITTER, KEYS, Sharing
from unit.plugins.harness import FakeClock, RecordingMeter, eventually
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("RES-1")

RESET_S = 60.0
POLICY = BreakerPolicy(failure_threshold=3, reset_timeout_s=RESET_S, monitoring_period_s=60)


class Tapped:
    """The way to Valkey, and what went over it."""

    def __init__(self, state: ValkeyState) -> None:
        self._state = state
        self.sent: list[tuple[str, Sequence[str], Sequence[str | int]]] = []

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Sequence[object]:
        self.sent.append((script, keys, arguments))
        return await self._state.run(script, keys, arguments)


class Replica:
    """`clock` is its own: what monotonic clocks of two machines say has nothing to do with each other."""

    def __init__(self, server: ValkeyServer, now_s: float) -> None:
        self.clock, self.meter = FakeClock(now_s), RecordingMeter()
        self.circuits = Circuits(POLICY, self.clock)
        self.circuits.observe_with(self.meter)
        self.state = ValkeyState(address_of(server.url), timeout_s=10.0)
        self.tapped = Tapped(self.state)
        self.sharing = Sharing(self.circuits, self.tapped, clock=self.clock)

    async def open(self, name: str) -> None:
        for _ in range(POLICY.failure_threshold):
            await self.call(name, fails=True)

    async def call(self, name: str, *, fails: bool = False) -> None:
        async def attempt() -> None:
            if fails:
                raise RetryableError("down")

        await asyncio.gather(self.circuits.of(name).run(attempt), return_exceptions=True)

    def shown(self, name: str) -> tuple[str, str | None]:
        status = self.circuits.statuses().get(name, BreakerStatus(state="closed"))
        return status.state, status.forced


class Pair:
    """Two replicas. Both clocks run with the server's, which the tests do not turn: waits of theirs are ours alone."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.one, self.two = Replica(server, 1_000.0), Replica(server, 5_000_000.0)
        self.all = [self.one, self.two]

    async def exchange(self, rounds: int = 2) -> None:
        """The first one of all learns the server's time, the second one tells."""
        for _ in range(rounds):
            for replica in self.all:
                await replica.sharing.exchange()
                await asyncio.sleep(0.002)  # the records have milliseconds
                for each in self.all:
                    each.clock.now_s += 0.002

    def restarted(self) -> Replica:
        """A third replica, that knows nothing."""
        self.all.append(Replica(self.server, 77.0))
        return self.all[-1]


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with running_valkey() as running:
        yield running


@pytest.fixture
async def pair(server: ValkeyServer) -> AsyncIterator[Pair]:
    made = Pair(server)
    await made.one.state.run("return redis.call('DEL', KEYS[1], KEYS[2])", KEYS, [])
    await made.exchange(1)
    yield made
    for replica in made.all:
        await replica.state.close()


async def test_an_opening_is_seen_by_the_other_for_the_rest_of_its_time(pair: Pair) -> None:
    """It need not fail five times itself; what it never called is open from the first call on."""
    await pair.one.open("x/a")
    await pair.exchange()
    assert pair.two.shown("x/a") == ("open", None)
    with pytest.raises(CircuitOpen) as caught:
        pair.two.circuits.of("x/a").admit()
    assert RESET_S - 2 < (caught.value.retry_after_s or 0) <= RESET_S
    assert pair.two.meter.total["circuit_breaker_state_changes_total", "x/a", "open"] == 1


async def test_a_probe_that_succeeds_closes_the_others(pair: Pair) -> None:
    """Each need not find out for itself."""
    await pair.one.open("x/a")
    await pair.exchange()
    pair.one.circuits.of("x/a").recovered()
    await pair.exchange()
    assert (pair.one.shown("x/a"), pair.two.shown("x/a")) == (("closed", None), ("closed", None))


async def test_who_was_answered_since_keeps_calling(pair: Pair) -> None:
    """A remote opening overrides no outcome that was seen later."""
    await pair.one.open("x/a")
    await asyncio.sleep(0.005)
    pair.two.clock.now_s += 0.005
    await pair.two.call("x/a")
    await pair.exchange()
    assert (pair.one.shown("x/a"), pair.two.shown("x/a")) == (("open", None), ("closed", None))


async def test_what_operators_say_holds_everywhere_and_outlives_replicas(pair: Pair) -> None:
    """Forced at one, it is forced at the other, and at one that starts later; setting free, too."""
    pair.one.circuits.force("x/a", "open")
    pair.two.circuits.force("x/b", "closed")
    await pair.exchange()
    third = pair.restarted()
    await third.sharing.exchange()
    for replica in pair.all:
        assert (replica.shown("x/a"), replica.shown("x/b")) == (("open", "open"), ("closed", "closed"))
    third.circuits.force("x/a", None)
    third.circuits.reset("x/b")
    await pair.exchange()
    for replica in pair.all:
        assert (replica.shown("x/a"), replica.shown("x/b")) == (("closed", None), ("closed", None))


async def test_a_reset_closes_what_opened_elsewhere(pair: Pair) -> None:
    """An operator asks one replica, and means all."""
    await pair.one.open("x/a")
    await pair.exchange()
    pair.two.circuits.reset("x/a")
    await pair.exchange()
    assert (pair.one.shown("x/a"), pair.two.shown("x/a")) == (("closed", None), ("closed", None))


async def test_a_reset_reaches_one_that_waits_for_its_probe(pair: Pair) -> None:
    """Its opening is over, so no record of it is left."""
    await pair.one.open("x/a")
    for replica in pair.all:
        replica.clock.now_s += RESET_S + 1
    breaker = pair.one.circuits.of("x/a")
    breaker.admit()
    assert breaker.state == "half_open"
    await pair.exchange()
    pair.two.circuits.reset("x/a")
    await pair.exchange()
    assert breaker.state == "closed"


async def test_dependencies_of_each_process_are_its_own(pair: Pair) -> None:
    """That one replica cannot reach PostgreSQL says nothing of the other."""
    await pair.one.open("postgres")
    pair.one.circuits.force("valkey", "open")
    await pair.exchange()
    assert not pair.two.circuits.statuses()


async def test_a_valkey_that_forgot_is_told_again(pair: Pair) -> None:
    """It was restarted, empty: what replicas know is there again, for those that start later."""
    pair.one.circuits.force("x/a", "open")
    await pair.one.open("x/b")
    await pair.exchange()
    await pair.one.state.run("return redis.call('DEL', KEYS[1], KEYS[2])", KEYS, [])
    await pair.exchange()
    third = pair.restarted()
    await third.sharing.exchange()
    assert (third.shown("x/a"), third.shown("x/b")) == (("open", "open"), ("open", None))


async def test_nothing_is_told_twice(pair: Pair) -> None:
    """Once all know the same, records stay as they are."""
    await pair.one.open("x/a")
    pair.two.circuits.force("x/b", "closed")
    await pair.exchange()
    before = await pair.one.state.run("return redis.call('HGETALL', KEYS[1])", KEYS, [])
    said = await pair.one.state.run("return redis.call('HGETALL', KEYS[2])", KEYS, [])
    await pair.exchange(5)
    assert await pair.one.state.run("return redis.call('HGETALL', KEYS[1])", KEYS, []) == before
    assert await pair.one.state.run("return redis.call('HGETALL', KEYS[2])", KEYS, []) == said


async def test_a_message_that_was_long_under_way_wins_against_nothing_newer(pair: Pair) -> None:
    """A frozen Valkey reads at last what was said before it froze: an opening is over, an operator was overruled."""
    await pair.exchange()
    pair.one.circuits.force("x/a", "open")
    await pair.one.sharing.exchange()
    await asyncio.sleep(0.005)
    pair.two.clock.now_s += 0.005
    pair.two.circuits.force("x/a", "closed")
    await pair.two.sharing.exchange()
    await pair.one.state.run(*pair.one.tapped.sent[-1])
    await pair.exchange()
    assert (pair.one.shown("x/a"), pair.two.shown("x/a")) == (("closed", "closed"), ("closed", "closed"))


async def test_a_record_of_the_future_counts_for_nothing(pair: Pair) -> None:
    """The server's clock was set back: what was said before does not rule until then."""
    await pair.exchange()
    script = "return redis.call('HSET', KEYS[2], 'x/a', (redis.call('TIME')[1] + 3600) .. '000 open 0')"
    await pair.one.state.run(script, KEYS, [])
    await pair.exchange()
    assert pair.two.shown("x/a") == ("closed", None)
    pair.two.circuits.force("x/a", "closed")
    await pair.exchange()
    assert (pair.one.shown("x/a"), pair.two.shown("x/a")) == (("closed", "closed"), ("closed", "closed"))


async def test_after_the_servers_clock_was_set_all_is_reckoned_anew(pair: Pair) -> None:
    """What a replica knows has the time that it has by the new clock, so that what is said next is newer."""
    pair.one.circuits.force("x/a", "open")
    await pair.exchange()
    pair.one.clock.now_s += 3600  # seen from the replica, the server's clock was set back by an hour
    await pair.exchange()
    pair.two.clock.now_s += 0.01
    await asyncio.sleep(0.01)
    pair.two.circuits.force("x/a", None)
    await pair.exchange()
    assert (pair.one.shown("x/a"), pair.two.shown("x/a")) == (("closed", None), ("closed", None))


class Silent:
    """A Valkey that is away for `n` calls, then answers nonsense for ever."""

    def __init__(self, n: int) -> None:
        self.n_left = n
        self.n_calls = 0

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Sequence[object]:
        self.n_calls += 1
        if self.n_calls <= self.n_left:
            raise RetryableError("Valkey cannot be reached")
        replies: list[Sequence[object]] = [
            [],
            [1],
            ["x", [], []],
            [1, [b"a"], []],
            [1, [b"a", b"b c d"], []],
            [1, 2, 3],
        ]
        return replies[self.n_calls % len(replies)]


async def test_a_valkey_that_is_away_or_mad_is_asked_on_and_on_and_nobody_notices() -> None:
    """About once a second, never in step."""
    clock, shared = FakeClock(), Silent(3)
    circuits = Circuits(POLICY, clock)
    sharing = Sharing(circuits, shared, clock=clock, sleep=clock.sleep)
    watching = asyncio.create_task(sharing.watch())
    await eventually(lambda: shared.n_calls > 20 or watching.done())
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert not circuits.known
    assert all(EVERY_S * (1 - JITTER) <= slept_s <= EVERY_S * (1 + JITTER) for slept_s in clock.slept_s)
    assert len(set(clock.slept_s)) > 1
