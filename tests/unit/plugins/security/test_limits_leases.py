"""Shares on the move, on the real script: who gets what, and what becomes of it when somebody or something dies."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from plugins.security.limits.leases import Leases
from plugins.security.limits.share import Share, Tally
from unit.plugins.harness import FakeClock
from unit.plugins.security.limits_world import EPOCH_MS, Replica, State, World
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("SEC-1")


@pytest.fixture
async def world(valkey: ValkeyServer) -> AsyncIterator[World]:
    state = State(valkey.url)
    await state.wipe()
    yield World(state)
    await state.close()


def used(replica: Replica, share: Share, most: int = 10_000) -> int:
    return next((n for n in range(most) if not replica.take(share)), most)


async def test_the_first_request_waits_for_one_exchange_and_the_next_for_none(world: World) -> None:
    """The cushion: an eighth of what is free, for two replicas."""
    a, _ = await world.join("a", "b")
    share = a.share(600)
    assert await world.wait(a, [(share, 1)]) is None
    calls = world.state.n_calls
    assert used(a, share) == 76
    assert world.state.n_calls == calls


async def test_one_replica_may_use_it_all_while_the_others_are_idle(world: World) -> None:
    """What B was lent and does not use comes back."""
    a, b = await world.join("a", "b")
    share, other = a.share(600), b.share(600)
    assert await world.wait(b, [(other, 1)]) is None
    b.take(other)
    n = 0
    while await world.wait(a, [(share, 1)]) is None:
        n += used(a, share)
    assert n == 599
    assert share.share == 599
    assert other.share == 1


async def test_all_shares_together_are_never_more_than_the_limit(world: World) -> None:
    """And under load on all replicas nothing of it is left over."""
    replicas = await world.join("a", "b", "c")
    shares = [replica.share(100) for replica in replicas]
    n = 0
    for _ in range(40):
        for replica, share in zip(replicas, shares, strict=True):
            n += used(replica, share)
        await world.beats()
        assert sum(share.held for share in shares) <= 100
    assert n == 100


async def test_a_refused_request_learns_at_once_that_nothing_is_left(world: World) -> None:
    """No exchange for each of them: the last answer is good for a beat."""
    a, _ = await world.join("a", "b")
    share = a.share(5)
    while await world.wait(a, [(share, 1)]) is None:
        used(a, share)
    calls = world.state.n_calls
    for _ in range(50):
        assert await a.leases.wait_for_room([(share, 1)]) is share
    assert world.state.n_calls == calls


async def test_who_has_more_than_its_part_passes_on_what_comes_free(world: World) -> None:
    """B comes late, and is not kept out by A's load."""
    (a,) = await world.join("a")
    share = a.share(60)
    while used(a, share) or share.used < 60:
        await world.beats()
    (b,) = await world.join("b")
    other, n_b = b.share(60), 0
    for _ in range(4 * 130):
        used(a, share)
        n_b += used(b, other)
        await world.beats()
    assert n_b > 30
    assert share.held + other.held <= 60


async def test_shares_are_kept_while_an_empty_valkey_lends_nothing(world: World) -> None:
    """It forgot everything: each replica would like more than it has, and giving up what is free would serve nobody."""
    replicas = await world.join("a", "b")
    shares = [replica.share(1_000) for replica in replicas]
    for replica, share in zip(replicas, shares, strict=True):
        assert await world.wait(replica, [(share, 1)]) is None
        assert replica.take(share)
    await world.beats(2.0)
    world.state.is_away = True
    await world.beats(8.0)
    await world.state.wipe()
    world.state.is_away = False
    for _ in range(20):
        await world.beats()
        assert all(replica.take(share) for replica, share in zip(replicas, shares, strict=True))


async def test_slots_of_a_killed_replica_are_free_within_ten_seconds(world: World) -> None:
    """Requests that it let in count for their minute."""
    a, b = await world.join("a", "b")
    slots, requests = a.share(4, "concurrency"), a.share(60)
    for _ in range(4):
        assert await world.wait(a, [(slots, 1)]) is None
        assert a.take(slots)
    while used(a, requests) or requests.used < 60:
        await world.beats()
    world.replicas.remove(a)
    await world.beats(7)
    others = b.share(4, "concurrency")
    assert await world.wait(b, [(others, 1)]) is None
    assert await world.wait(b, [(b.share(60), 1)]) is not None
    await world.beats(62)
    assert await world.wait(b, [(b.share(60), 1)]) is None


async def test_a_replica_that_leaves_gives_back_what_it_did_not_use(world: World) -> None:
    """At once: the others need not wait for its time to be over."""
    a, b = await world.join("a", "b")
    share = a.share(600)
    assert await world.wait(a, [(share, 1)]) is None
    a.take(share)
    world.replicas.remove(a)
    await a.leases.farewell()
    other, n = b.share(600), 0
    while await world.wait(b, [(other, 1)]) is None:
        n += used(b, other)
    assert n == 599


async def test_without_valkey_shares_stay_then_shrink_then_are_the_limits_parts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Load at the old rate goes on; after 69 s both have a half. One line when it goes, one when it is back."""
    a, b = await world.join("a", "b")
    share, other = a.share(100), b.share(100)
    while share.used < 60:
        used(a, share, 5)
        used(b, other, 1)
        await world.beats()
    world.state.is_away = True
    with caplog.at_level(logging.INFO, "security"):
        await world.beats(0.5)
        held = share.share
        assert held >= 60
        await world.beats(3.5)
        assert share.share == held
        await world.beats(2)
        assert share.share == 50
        assert share.held + other.held <= 100
        await world.beats(55)
        assert other.share < 25
        await world.beats(10)
        assert (share.share, other.share) == (50, 50)
        assert used(a, share) + used(b, other) <= 100
        world.state.is_away = False
        await world.beats(1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO", "INFO"]
    assert share.held + other.held <= 100


async def test_nobody_waits_for_a_valkey_that_is_away(world: World) -> None:
    """Once it is known."""
    a, _ = await world.join("a", "b")
    world.state.is_away = True
    await world.beats(1)
    share, calls = a.share(100), world.state.n_calls
    assert await a.leases.wait_for_room([(share, 1)]) is share
    assert world.state.n_calls == calls


async def test_a_frozen_replica_does_not_go_on_with_an_old_share(world: World) -> None:
    """It was stopped for a minute and a half, and serves before its first beat."""
    a, b = await world.join("a", "b")
    share = a.share(100)
    while used(a, share) or share.used < 100:
        await world.beats()
    world.replicas.remove(a)
    await world.beats(90)
    assert used(a, share) == 50
    world.replicas.append(a)
    await world.beats(1)
    assert share.held + b.share(100).held <= 100


async def test_what_a_frozen_valkey_reads_too_late_is_not_done(world: World) -> None:
    """A message that was given up ninety seconds ago says what is not true any more."""
    a, b = await world.join("a", "b")
    share = a.share(100)
    assert await world.wait(a, [(share, 1)]) is None
    world.state.is_frozen = True
    await world.beats(90)
    assert share.share == 50
    assert used(a, share) == 50
    world.state.is_frozen = False
    await world.state.read_delayed(EPOCH_MS + round(world.clock.now_s * 1000))
    await world.beats(3)
    other, n = b.share(100), 0
    while await world.wait(b, [(other, 1)]) is None:
        n += used(b, other)
    assert n == 50


async def test_an_empty_valkey_lends_nothing_until_all_have_spoken(world: World) -> None:
    """It was killed, and knows of no shares; a replica that has just begun could have them all."""
    a, b = await world.join("a", "b")
    share = a.share(100)
    while used(a, share) or share.used < 60:
        await world.beats()
    n_used = share.used
    await world.state.wipe()
    new = Replica(world.state, world.clock, "new")
    other, n = new.share(100), 0
    for _ in range(8):  # A and B are slow to notice
        await new.beat()
        n += used(new, other)
        world.clock.now_s += 0.25
    assert n == 0
    world.replicas.append(new)
    await world.beats(1)
    while await world.wait(new, [(other, 1)]) is None:
        n += used(new, other)
    assert n == 100 - n_used
    assert b.leases.active == {} or b.share(100).held == 0


async def test_a_lost_reply_costs_nothing_but_time(world: World) -> None:
    """Valkey believes that A holds more than it does; A's next word is the truth."""
    a, b = await world.join("a", "b")
    share = a.share(100)
    world.state.loses_replies = True
    assert await a.leases.wait_for_room([(share, 90)]) is share or True
    await a.beat()
    world.state.loses_replies = False
    await world.beats(2)
    other = b.share(100)
    n = 0
    while await world.wait(b, [(other, 1)]) is None:
        n += used(b, other)
    assert n == 100


async def test_a_lower_limit_takes_back_what_is_not_used(world: World) -> None:
    """And a higher one is there at once."""
    a, b = await world.join("a", "b")
    share, other = a.share(600), b.share(600)
    for replica, one in ((a, share), (b, other)):
        assert await world.wait(replica, [(one, 1)]) is None
        assert used(replica, one, 40) == 40
    a.share(100)
    b.share(100)
    await world.beats(2)
    assert share.share + other.share <= 100
    a.share(200)
    b.share(200)
    n = 0
    while await world.wait(a, [(share, 1)]) is None:
        n += used(a, share)
    assert n == 120


async def test_alone_each_replica_has_its_part() -> None:
    """No VALKEY_URL: the limit by PLUGINS_SECURITY_REPLICAS, without asking anybody."""
    clock = FakeClock()
    leases = Leases(None, n_replicas=3, clock=clock)
    share = leases.share("k", 100, Tally("requests", "key"))
    assert share.share == 33
    for _ in range(33):
        share.take(1, clock.now_s)
    assert await leases.wait_for_room([(share, 1)]) is share
    clock.now_s += 70
    assert await leases.wait_for_room([(share, 33)]) is None
    await leases.turn()
    assert leases.active == {}


async def test_a_replica_that_never_reached_valkey_lets_in_nobody_who_is_limited(world: World) -> None:
    """It cannot know what others have. Strange addresses it lets in: somebody must be able to sign in."""
    world.state.is_away = True
    (a,) = await world.join("a")
    await world.beats(80)
    assert a.share(100).share == 0
    assert a.leases.share("r:address:x", 100, Tally("requests", "address")).share == 100
    configured = Replica(world.state, world.clock, "b", n_replicas=2)
    world.replicas.append(configured)
    share = configured.share(100)
    await world.beats(60)
    assert share.share == 0
    await world.beats(10)
    assert share.share == 50
