"""A client that leaves is charged the estimate of a call that runs, which may cost what nobody counted: of no other."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from app.billing.ledger import Ledger
from app.errors import DeadlineExceeded, UpstreamTimeout, UpstreamUnavailable
from app.ids import new_id
from app.llm.model import Call, Timeouts
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.app.llm.scripted import Behaviour, World, asked, target, within
from unit.app.llm.support import asking, plan
from unit.plugins.harness import eventually

HEDGED, ONE, TWO = target("one", may_hedge=True), target("one"), target("two")


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def call(request: pytest.FixtureRequest) -> Call:
    return asking(stream=request.param)


def away(gate: asyncio.Event | None = None) -> Behaviour:
    return Behaviour(failing=UpstreamUnavailable("away"), gate=gate)


def hangs() -> Behaviour:
    return Behaviour(gate=asyncio.Event())


class Pauses:
    """A guard whose pauses between attempts never end."""

    def __init__(self) -> None:
        settings = ResilienceSettings()
        self.n_begun = 0
        self.guard = ResilientGuard(settings.breaker, settings.retry, sleep=self._sleep)

    async def _sleep(self, _: float) -> None:
        self.n_begun += 1
        await asyncio.Event().wait()


async def leave(world: World, answering: asyncio.Task[str]) -> None:
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    assert answering.cancelled()
    await world.chain.settle()


def charged(world: World) -> list[tuple[str, bool]]:
    """How each account ended, and whether it was charged its estimate."""
    told: list[tuple[str, bool]] = []
    for account in world.book.entries:
        assert account.happened is not None
        expected = msgspec.structs.replace(account.expected, estimate_nusd=9)
        entry = Ledger(lambda _: None).open(expected, new_id()).close(account.happened)
        assert entry is not None
        told.append((entry.outcome, entry.cost_nusd == 9 and entry.is_estimate))
    return told


async def test_a_call_under_way_is_charged(call: Call) -> None:
    """The first one, and one after a failure."""
    for others in ((), (TWO,)):
        world = World(one=away() if others else hangs(), two=(last := hangs()))
        answering = asyncio.create_task(asked(world, call, ONE, *others))
        await asyncio.sleep(0.02)
        assert last.n_asked == len(others)
        await leave(world, answering)
        assert charged(world) == [("cancelled", True)]


async def test_a_deadline_is_a_way_of_leaving(call: Call) -> None:
    """Who is in a hurry must not have for nothing what the vendor bills; what failed before it costs nothing."""
    world = World(one=hangs())
    with pytest.raises(DeadlineExceeded):
        await asked(world, within(call, 0.02), ONE, TWO)
    assert (charged(world), world.told()) == ([("error", True)], [("one", "upstream_timeout", 1)])
    pauses = Pauses()
    world = World(guard=pauses.guard, one=away())
    with pytest.raises((DeadlineExceeded, UpstreamUnavailable)):
        await asked(world, within(call, 0.02), ONE)
    assert charged(world) == [("error", False)]


async def test_a_targets_own_time_out_costs_nothing(call: Call) -> None:
    """It failed, as targets do."""
    quick = msgspec.structs.replace(ONE, timeouts=Timeouts(first_token_s=0.01, total_s=0.01))
    world = World(one=hangs())
    with pytest.raises(UpstreamTimeout):
        await asked(world, call, quick)
    assert charged(world) == [("error", False)]


async def test_a_pause_after_a_failure_costs_nothing(call: Call) -> None:
    """The call that failed is over, the next one is not sent."""
    pauses = Pauses()
    world = World(guard=pauses.guard, one=(one := away()))
    answering = asyncio.create_task(asked(world, call, ONE))
    await eventually(lambda: pauses.n_begun == 1)
    await leave(world, answering)
    assert (one.n_asked, charged(world)) == (1, [("cancelled", False)])


async def test_waiting_for_a_place_after_a_failure_costs_nothing(call: Call) -> None:
    """Nobody has been asked instead."""
    full = target("two", max_calls=1)
    world = World(one=(one := away()))
    assert world.places.take(full) is not None
    answering = asyncio.create_task(asked(world, call, ONE, full))
    await eventually(lambda: bool(one.n_asked))
    await asyncio.sleep(0)
    await leave(world, answering)
    assert charged(world) == [("cancelled", False)]


async def test_of_two_legs_each_that_runs_is_charged(call: Call) -> None:
    """Both of them may cost."""
    world = World(one=hangs(), two=(second := hangs()))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, HEDGED, TWO))
    await eventually(lambda: bool(second.n_asked))
    await leave(world, answering)
    assert charged(world) == [("cancelled", True), ("cancelled", True)]


async def test_a_first_leg_that_failed_costs_nothing(call: Call) -> None:
    """While the second runs, which does."""
    gate = asyncio.Event()
    world = World(one=away(gate), two=(second := hangs()))
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, HEDGED, TWO))
    await eventually(lambda: bool(second.n_asked))
    gate.set()
    await eventually(lambda: world.meter.total["llm_calls_total", "one", "upstream_unavailable"] == 1)
    await asyncio.sleep(0)
    await leave(world, answering)
    assert charged(world) == [("cancelled", False), ("cancelled", True)]


async def test_a_second_leg_that_pauses_after_a_failure_costs_nothing(call: Call) -> None:
    """While the first runs, which does."""
    pauses = Pauses()
    world = World(guard=pauses.guard, one=hangs(), two=away())
    world.slow_from("one", 5.0)
    answering = asyncio.create_task(asked(world, call, HEDGED, TWO))
    await eventually(lambda: pauses.n_begun == 1)
    await leave(world, answering)
    assert charged(world) == [("cancelled", True), ("cancelled", False)]


@pytest.mark.parametrize("is_asked", [False, True])
async def test_a_stream_that_another_continues_is_charged_once_that_is_asked(is_asked: bool) -> None:
    """Its second account; not while a place is waited for. The first one costs what was read."""
    call = msgspec.structs.replace(asking(stream=True), may_continue=True)
    second = target("two", max_calls=1)
    world = World(two=hangs())
    if not is_asked:
        assert world.places.take(second) is not None
    streamed = await world.chain.stream(call, plan(target("tears"), second))

    async def read() -> str:
        return b"".join([piece.wire async for piece in streamed.pieces]).decode()

    reading = asyncio.create_task(read())
    await eventually(lambda: len(world.book.entries) == 2)
    await asyncio.sleep(0.01)
    await leave(world, reading)
    first = world.book.entries[0].happened
    assert first is not None
    assert first.usage is not None
    assert charged(world)[1] == ("cancelled", is_asked)


async def test_a_stream_that_is_left_is_under_way() -> None:
    """What was read of it is counted; should that fail, it is charged."""
    world = World()
    streamed = await world.chain.stream(asking(stream=True), plan(ONE))
    await anext(streamed.pieces)
    await streamed.pieces.aclose()  # type: ignore[attr-defined]  # an async generator
    await world.chain.settle()
    assert charged(world) == [("cancelled", True)], "what it sent is no event, so it cannot be counted"
