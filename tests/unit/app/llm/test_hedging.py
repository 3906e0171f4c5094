"""A second leg for slow targets: when there is one, who wins, what becomes of the loser, and what is entered."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.errors import AllTargetsFailed, DeadlineExceeded, InvalidRequest, UpstreamUnavailable
from app.llm.hedging import MAX_SHARE, Quota
from app.llm.model import Call
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.app.llm.scripted import USAGE, Behaviour, Book, World, asked, target, within
from unit.app.llm.support import asking, embedding, plan
from unit.plugins.harness import FakeClock, eventually

ONE, TWO, THREE = target("one", may_hedge=True), target("two"), target("three")


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def call(request: pytest.FixtureRequest) -> Call:
    return asking(stream=request.param)


def hangs() -> Behaviour:
    return Behaviour(gate=asyncio.Event())


async def test_the_next_target_is_asked_when_the_first_is_slow(call: Call) -> None:
    """Its answer is the caller's; the first is left, and both are entered, each for itself."""
    world = World(one=(slow := hangs()))
    world.slow_from("one", 5.0)
    assert await asked(world, call, ONE, TWO) == "two"
    assert slow.n_left == 1
    assert world.told() == [("one", "cancelled", 1), ("two", "ok", 2)]
    assert world.transport.n_open == 0
    assert world.meter.total["llm_hedges_total", "two", "won"] == 1
    assert (world.traffic.n_running("one"), world.traffic.n_running("two")) == (0, 0)


async def test_the_first_target_may_still_win(call: Call) -> None:
    """Then the second leg is the one that is left."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate), two=(second := hangs()))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await eventually(lambda: bool(second.n_asked))
    gate.set()
    assert await answering == "one"
    assert second.n_left == 1
    assert world.told() == [("one", "ok", 2), ("two", "cancelled", 1)]
    assert world.meter.total["llm_hedges_total", "two", "lost"] == 1


async def test_both_may_answer_in_the_same_moment(call: Call) -> None:
    """One is given, the other one discarded: nothing stays open, and what it used is entered."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate), two=(second := Behaviour(gate=gate)))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await eventually(lambda: bool(second.n_asked))
    gate.set()
    assert await answering == "one"
    assert world.told() == [("one", "ok", 2), ("two", "cancelled", 1)]
    assert world.transport.n_open == 0
    assert (world.traffic.n_running("one"), world.traffic.n_running("two")) == (0, 0)


@pytest.mark.parametrize("n_calls", [0, 18])
async def test_there_are_no_hedges_before_there_were_calls(call: Call, n_calls: int) -> None:
    """With this one 19 at most: a twentieth of them is not one."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate), two=(second := hangs()))
    world.slow_from("one", 1.0, n_calls=n_calls)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await asyncio.sleep(0.02)
    gate.set()
    assert (await answering, second.n_asked) == ("one", 0)


async def test_who_is_not_known_to_be_slow_is_waited_for(call: Call) -> None:
    """No p95, no hedge; nor without the wish, nor where nobody else is left."""
    for first, others in ((ONE, (TWO,)), (target("one"), (TWO,)), (ONE, ())):
        gate = asyncio.Event()
        world = World(one=Behaviour(gate=gate))
        if first is not ONE or not others:
            world.slow_from("one", 1.0)
        answering = asyncio.create_task(asked(world, call, first, *others))
        await asyncio.sleep(0.02)
        gate.set()
        assert await answering == "one"
        assert len(world.book.entries) == 1


async def test_a_target_that_is_broken_or_full_is_passed_over(call: Call) -> None:
    """The hedge goes to the first that is well and has room."""
    settings = ResilienceSettings(circuit_breaker_failure_threshold=1)
    guard = ResilientGuard(settings.breaker, settings.retry)
    world = World(guard=guard, one=hangs(), broken=Behaviour(failing=UpstreamUnavailable("away")))
    with pytest.raises(UpstreamUnavailable):
        await asked(world, asking(), target("broken"))
    full = target("full", max_calls=1)
    assert world.places.take(full) is not None
    world.slow_from("one", 5.0)
    assert await asked(world, call, ONE, target("broken"), full, TWO) == "two"


async def test_what_is_not_let_in_is_no_leg(call: Call) -> None:
    """A second leg is reserved for like any call: without money the first is waited for, and no place is lost."""
    gate = asyncio.Event()
    world = World(book=Book(n_let_in=1), max_calls=1, one=Behaviour(gate=gate))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await asyncio.sleep(0.02)
    gate.set()
    assert await answering == "one"
    assert world.told() == [("one", "ok", 1)]
    assert world.meter.total["llm_hedges_total", "two", "refused"] == 1
    assert world.places.take(TWO) is not None


async def test_a_leg_that_fails_leaves_it_to_the_other_one(call: Call) -> None:
    """Whichever it is; its failure is told and entered."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate), two=Behaviour(failing=UpstreamUnavailable("away")))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO, THREE))
    await asyncio.sleep(0.02)
    gate.set()
    assert await answering == "one"
    assert world.told() == [("one", "ok", 2), ("two", "upstream_unavailable", 1)]
    assert world.meter.total["llm_hedges_total", "two", "failed"] == 1


async def test_the_walk_goes_on_when_both_fail(call: Call) -> None:
    """To whoever was not asked; the request's own account is the first leg's, and then that target's."""
    gate = asyncio.Event()
    away = UpstreamUnavailable("away")
    second = Behaviour(gate=gate, failing=UpstreamUnavailable("away"))
    world = World(one=Behaviour(gate=gate, failing=away), two=second)
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO, THREE))
    await eventually(lambda: bool(second.n_asked))
    gate.set()
    assert await answering == "three"
    assert world.told() == [("three", "ok", 3), ("two", "upstream_unavailable", 1)]
    with pytest.raises(AllTargetsFailed):
        await asked(world, call, ONE, TWO)


async def test_what_the_second_refuses_the_first_may_still_answer(call: Call) -> None:
    """Its context may be shorter, its policy narrower: the first is slow, and well."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate), two=(second := Behaviour(failing=InvalidRequest("wrong"))))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await eventually(lambda: bool(second.n_asked))
    await asyncio.sleep(0.02)
    gate.set()
    assert await answering == "one"
    assert [told[1] for told in world.told()] == ["ok", "invalid_request"]


async def test_a_request_that_the_first_refuses_ends_both(call: Call) -> None:
    """No other target would mend it."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate, failing=InvalidRequest("wrong")), two=(second := hangs()))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await eventually(lambda: bool(second.n_asked))
    gate.set()
    with pytest.raises(InvalidRequest):
        await answering
    await world.chain.settle()
    assert second.n_left == 1


async def test_whoever_leaves_ends_both_legs(call: Call) -> None:
    """Also by its deadline: nothing is called any more, all places are free, and both are entered."""
    world = World(max_calls=1, one=(first := hangs()), two=(second := hangs()))
    world.slow_from("one", 5.0)
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await asked(world, within(call, 0.1), ONE, TWO)
    assert time.monotonic() - began_s < 1
    assert (first.n_left, second.n_left) == (1, 1)
    assert [(told[0], told[1]) for told in world.told()][1:] == [("two", "cancelled")]
    assert world.places.take(ONE) is not None
    assert world.places.take(TWO) is not None
    assert world.transport.n_open == 0


async def test_who_leaves_as_the_answer_comes_pays_for_what_it_used() -> None:
    """Not the estimate of a call whose end nobody saw: its tokens are known."""
    gate = asyncio.Event()
    world = World(one=Behaviour(gate=gate), two=(second := hangs()))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, asking(), ONE, TWO))
    await eventually(lambda: bool(second.n_asked))
    gate.set()
    while world.traffic.n_running("one"):  # noqa: ASYNC110  # the very turn matters
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    await world.chain.settle()
    happened = world.book.entries[0].happened
    assert happened is not None
    assert (happened.target, happened.outcome, happened.usage) == ("one", "cancelled", USAGE)


async def test_embeddings_are_hedged_too() -> None:
    """They are whole answers."""
    world = World(one=hangs())
    world.slow_from("one", 5.0)
    done = await world.chain.embed(embedding("a"), plan(ONE, TWO))
    await world.chain.settle()
    assert (done.target, done.attempts) == (TWO, 2)
    assert world.told() == [("one", "cancelled", 1), ("two", "ok", 2)]


def test_at_most_a_twentieth_is_hedged() -> None:
    """However slow a target becomes as a whole: of any thousand calls, whatever the time between them."""
    clock, n_hedges = FakeClock(), 0
    quota = Quota(clock)
    for n in range(1, 5_001):
        quota.called("one")
        n_hedges += quota.take("one")
        assert n_hedges <= MAX_SHARE * n
        clock.now_s += 0.5 if n % 7 else 13.0
    assert n_hedges > 0.8 * MAX_SHARE * 5_000
    clock.now_s += 3_600
    quota.called("one")
    assert not quota.take("one"), "what was an hour ago allows nothing now"
