"""The walk: targets that have as many calls as they take, and deadlines at every wait of a chain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

import msgspec
import pytest

from app.errors import AllTargetsFailed, DeadlineExceeded, UpstreamRateLimited, UpstreamUnavailable
from app.llm.model import Call
from app.llm.places import PATIENCE_S
from app.llm.prices import Price
from plugins.contract.errors import Overloaded
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.app.llm.scripted import Behaviour, Book, World, asked, target, within
from unit.app.llm.support import asking, embedding, plan
from unit.plugins.harness import eventually

ONE, TWO = target("one", max_calls=1), target("two", max_calls=1)


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def call(request: pytest.FixtureRequest) -> Call:
    return asking(stream=request.param)


async def test_a_full_target_is_passed_over_at_once(call: Call) -> None:
    """It is no failure of it: no breaker hears of it, no attempt is counted, and it may be the next call's first."""
    settings = ResilienceSettings(circuit_breaker_failure_threshold=1)
    guard = ResilientGuard(settings.breaker, settings.retry)
    world = World(guard=guard)
    place = world.places.take(ONE)
    assert place is not None
    began_s = time.monotonic()
    assert await asked(world, call, ONE, TWO) == "two"
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert world.told() == [("two", "ok", 1)]
    assert "one" not in guard.states()
    place.release()
    assert await asked(world, call, ONE, TWO) == "one"


async def test_the_last_one_is_waited_for(call: Call) -> None:
    """A place that becomes free in time is taken."""
    world = World()
    place = world.places.take(ONE)
    assert place is not None
    answering = asyncio.create_task(asked(world, call, ONE))
    await asyncio.sleep(0.01)
    place.release()
    assert await answering == "one"
    assert world.places.take(ONE) is not None


async def test_all_full_is_overload_after_a_short_wait(call: Call) -> None:
    """503 with a time to come again; nothing was sent, nothing is entered as sent."""
    world = World()
    for one in (ONE, TWO):
        assert world.places.take(one) is not None
    began_s = time.monotonic()
    with pytest.raises(Overloaded) as refused:
        await asked(world, call, ONE, TWO)
    assert PATIENCE_S <= time.monotonic() - began_s < PATIENCE_S + 1
    assert refused.value.retry_after_s == 1
    assert [attempt.code for attempt in refused.value.attempts] == ["overloaded", "overloaded"]
    assert world.told() == [("two", "overloaded", 0)]


async def test_one_that_is_full_is_waited_for_after_the_others_failed(call: Call) -> None:
    """It is the last that is left; if it stays full, the one error says how each of them failed."""
    world = World(two=Behaviour(failing=UpstreamUnavailable("away")))
    place = world.places.take(ONE)
    assert place is not None
    with pytest.raises(AllTargetsFailed, match=r"two \(upstream_unavailable\), one \(overloaded\)"):
        await asked(world, call, ONE, TWO)
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await asyncio.sleep(0.01)
    place.release()
    assert await answering == "one"


async def test_a_place_that_came_free_while_another_was_asked_is_taken(call: Call) -> None:
    """Nobody waited then, so nobody was told."""
    gate = asyncio.Event()
    world = World(two=(second := Behaviour(gate=gate, failing=UpstreamUnavailable("away"))))
    place = world.places.take(ONE)
    assert place is not None
    answering = asyncio.create_task(asked(world, call, ONE, TWO))
    await eventually(lambda: bool(second.n_asked))
    place.release()
    gate.set()
    assert await answering == "one"


async def test_a_stream_keeps_its_place_until_it_ends() -> None:
    """Not only until its first token; whichever way it ends."""
    world = World()
    streamed = await world.chain.stream(asking(stream=True), plan(ONE))
    assert world.places.take(ONE) is None
    assert [piece.wire async for piece in streamed.pieces] == [b"from ", b"one"]
    (place,) = [world.places.take(ONE)]
    assert place is not None
    place.release()
    streamed = await world.chain.stream(asking(stream=True), plan(ONE))
    await anext(streamed.pieces)
    await streamed.pieces.aclose()  # type: ignore[attr-defined]  # an async generator
    assert world.places.take(ONE) is not None


async def test_a_failure_gives_back_its_place(call: Call) -> None:
    """And a call that is cancelled."""
    world = World(one=Behaviour(failing=UpstreamUnavailable("away")), two=Behaviour(gate=asyncio.Event()))
    with pytest.raises(UpstreamUnavailable):
        await asked(world, call, ONE)
    with pytest.raises(DeadlineExceeded):
        await asked(world, within(call, 0.01), TWO)
    assert world.places.take(ONE) is not None
    assert world.places.take(TWO) is not None


async def test_own_keys_have_no_bound_here(call: Call) -> None:
    """It is the tenant's account at the vendor."""
    world = World()
    assert world.places.take(ONE) is not None
    assert await asked(world, call, msgspec.structs.replace(ONE, own_key_id="pkey_1")) == "one"


class Slow:
    """Prices that are never said."""

    async def of(self, tenant_id: UUID) -> Mapping[str, Price]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_deadline_holds_for_what_is_looked_up_first(call: Call) -> None:
    """Prices, keys, and what lets a call in are waited for no longer than the caller waits."""
    book = Book()
    book.gate = asyncio.Event()
    world = World(book=book)
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await asked(world, within(call, 0.05), ONE)
    world = World(tenant_prices=Slow())
    with pytest.raises(DeadlineExceeded):
        await asked(world, within(msgspec.structs.replace(call, tenant_id=uuid4()), 0.05), ONE)
    assert time.monotonic() - began_s < 0.5


async def test_a_deadline_holds_for_embeddings() -> None:
    """They had none."""
    world = World(one=Behaviour(gate=asyncio.Event()))
    deadline_s = asyncio.get_running_loop().time() + 0.05
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await world.chain.embed(msgspec.structs.replace(embedding("a"), deadline_s=deadline_s), plan(ONE))
    assert time.monotonic() - began_s < 0.5
    assert world.places.take(ONE) is not None


async def test_a_deadline_holds_for_a_place(call: Call) -> None:
    """While all are taken."""
    world = World()
    assert world.places.take(ONE) is not None
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await asked(world, within(call, 0.05), ONE)
    assert time.monotonic() - began_s < PATIENCE_S


async def test_a_wait_past_the_deadline_is_not_begun(call: Call) -> None:
    """The last target asks for three seconds, the caller waits for one: it is told at once, with the time to wait."""
    settings = ResilienceSettings()
    guard = ResilientGuard(settings.breaker, settings.retry)
    world = World(guard=guard, one=(limited := Behaviour(failing=UpstreamRateLimited("slowly", retry_after_s=3))))
    began_s = time.monotonic()
    with pytest.raises(UpstreamRateLimited) as failed:
        await asked(world, within(call, 1.0), ONE)
    assert time.monotonic() - began_s < 0.5
    assert (failed.value.retry_after_s, limited.n_asked) == (3, 1)


@pytest.mark.parametrize(("seconds", "n_failed"), [(0.05, 0), (None, 1)])
async def test_a_callers_patience_is_no_fault_of_the_target(seconds: float | None, n_failed: int) -> None:
    """A stream that breaks off counts as its failure, one whose deadline came does not."""
    world = World()
    call = asking(stream=True)
    streamed = await world.chain.stream(call if seconds is None else within(call, seconds), plan(target("breaks")))
    with pytest.raises(UpstreamUnavailable if seconds is None else DeadlineExceeded):
        async for _ in streamed.pieces:
            pass
    fare = world.traffic.fare_of("breaks")
    assert (fare.n_running, fare.n_calls, fare.n_failed) == (0, 1, n_failed)
