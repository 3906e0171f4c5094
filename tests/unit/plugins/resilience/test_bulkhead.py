"""Places: never more than there are, interactive before batch, none lost, whoever leaves when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.contract.errors import DeadlinePassed, Overloaded
from plugins.resilience.bulkhead import COME_AGAIN_S, Bulkhead, CallerLeft, Priority
from unit.plugins.harness import eventually

pytestmark = pytest.mark.requirement("RES-3")


def bulkhead(n: int = 1, queued: int = 10, max_wait_s: float = 60.0) -> Bulkhead:
    return Bulkhead("this", max_concurrency=n, max_queued=queued, max_wait_s=max_wait_s)


class Crowd:
    """Callers of one bulkhead, each of whom stays until it is told to go. `inside`: who is in, in order of entry."""

    def __init__(self, place: Bulkhead) -> None:
        self.bulkhead = place
        self.inside: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}

    async def enters(self, name: str, priority: Priority = "interactive") -> asyncio.Task[None]:
        self._gates[name] = asyncio.Event()

        async def stay() -> None:
            async with self.bulkhead.enter(priority):
                self.inside.append(name)
                await self._gates[name].wait()

        task = asyncio.create_task(stay())
        await asyncio.sleep(0)
        return task

    async def leaves(self, name: str) -> None:
        n_inside = len(self.inside)
        n_queued = self.bulkhead.n_queued
        self._gates[name].set()
        if n_queued:
            await eventually(lambda: len(self.inside) > n_inside)
        else:
            await asyncio.sleep(0)


async def test_what_is_full_refuses_at_once() -> None:
    """Nothing was begun, and it says when to come again."""
    crowd = Crowd(bulkhead(n=2, queued=1))
    tasks = [await crowd.enters(name) for name in ("a", "b", "waits")]
    with pytest.raises(Overloaded) as caught:
        await crowd.bulkhead.wait("interactive")
    assert caught.value.retry_after_s == COME_AGAIN_S["interactive"]
    assert (crowd.bulkhead.n_running, crowd.bulkhead.n_queued, crowd.inside) == (2, 1, ["a", "b"])
    await crowd.leaves("a")
    await crowd.leaves("b")
    await crowd.leaves("waits")
    await asyncio.gather(*tasks)
    assert (crowd.bulkhead.n_running, crowd.bulkhead.n_queued) == (0, 0)


async def test_interactive_calls_come_first_and_each_in_turn() -> None:
    """A batch call waits for all interactive ones, also for those that came later."""
    crowd = Crowd(bulkhead())
    tasks = [await crowd.enters("first")]
    for name in ("b1", "i1", "b2", "i2"):
        tasks.append(await crowd.enters(name, "batch" if name.startswith("b") else "interactive"))
    for name in ("first", "i1", "i2", "b1", "b2"):
        assert crowd.inside[-1] == name
        await crowd.leaves(name)
    await asyncio.gather(*tasks)


async def test_the_batch_call_that_came_last_gives_way_in_a_full_queue() -> None:
    """An interactive call is not refused for what nobody waits for."""
    crowd = Crowd(bulkhead(queued=2))
    inside = await crowd.enters("first")
    first, last = await crowd.enters("b1", "batch"), await crowd.enters("b2", "batch")
    person = await crowd.enters("i1")
    with pytest.raises(Overloaded) as caught:
        await last
    assert caught.value.retry_after_s == COME_AGAIN_S["batch"]
    with pytest.raises(Overloaded):
        await crowd.bulkhead.wait("batch")
    for name in ("first", "i1", "b1"):
        await crowd.leaves(name)
    await asyncio.gather(inside, first, person)
    assert crowd.inside == ["first", "i1", "b1"]


async def test_waiting_ends_at_the_deadline_or_the_longest_wait() -> None:
    """Whichever comes first, which is told; the place in the queue is free then."""
    short, long = bulkhead(max_wait_s=0.01), bulkhead(max_wait_s=60)
    loop = asyncio.get_running_loop()
    async with short.enter(), long.enter():
        with pytest.raises(Overloaded):
            await short.wait("interactive")
        with pytest.raises(Overloaded):
            await short.wait("interactive", deadline_s=loop.time() + 60)
        with pytest.raises(DeadlinePassed):
            async with long.enter(deadline_s=loop.time() + 0.01):
                pass
        with pytest.raises(DeadlinePassed):
            await long.wait("batch", deadline_s=loop.time())
        assert short.n_queued == long.n_queued == 0
    assert short.n_running == long.n_running == 0


async def test_a_deadline_that_is_over_still_takes_a_free_place() -> None:
    """It only bounds the wait."""
    place = bulkhead()
    async with place.enter(deadline_s=0.0):
        assert place.n_running == 1


@pytest.mark.parametrize("turns", range(4))
async def test_a_place_given_to_who_is_just_leaving_goes_to_the_next(turns: int) -> None:
    """Cancelled before, in the very moment, or after."""
    crowd = Crowd(bulkhead())
    assert crowd.bulkhead.try_take()
    leaving, staying = [await crowd.enters(name) for name in ("leaving", "staying")]
    crowd.bulkhead.give_back()  # to `leaving`
    for _ in range(turns):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await eventually(lambda: "staying" in crowd.inside)
    assert (crowd.bulkhead.n_running, crowd.bulkhead.n_queued) == (1, 0)
    await crowd.leaves("staying")
    await staying
    assert crowd.bulkhead.n_running == 0


async def test_who_left_the_queue_is_given_nothing() -> None:
    """Its future is still there when the place is given back, in the same turn of the loop."""
    crowd = Crowd(bulkhead())
    inside, leaving, staying = [await crowd.enters(name) for name in ("in", "leaving", "staying")]
    leaving.cancel()
    inside.cancel()
    await asyncio.gather(leaving, inside, return_exceptions=True)
    await eventually(lambda: "staying" in crowd.inside)
    assert (crowd.bulkhead.n_running, crowd.bulkhead.n_queued) == (1, 0)
    await crowd.leaves("staying")
    await staying
    assert crowd.bulkhead.n_running == 0


class Caller:
    """Whose departure can be heard of."""

    def __init__(self) -> None:
        self.has_left = False
        self.listeners: list[Callable[[], None]] = []

    def call(self, callback: Callable[[], None], /) -> None:
        if self.has_left:
            callback()
        else:
            self.listeners.append(callback)

    def forget(self, callback: Callable[[], None], /) -> None:
        if callback in self.listeners:
            self.listeners.remove(callback)

    def leaves(self) -> None:
        self.has_left = True
        for callback in self.listeners:
            callback()


async def test_a_caller_that_leaves_frees_its_place_in_the_queue() -> None:
    """At once, for whoever comes next; and one that had left before it came."""
    place, caller = bulkhead(queued=1), Caller()
    async with place.enter():
        leaving = asyncio.create_task(place.wait("interactive", departure=caller))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await place.wait("interactive")
        caller.leaves()
        with pytest.raises(CallerLeft):
            await leaving
        with pytest.raises(CallerLeft):
            await place.wait("interactive", departure=caller)
        assert (place.n_running, place.n_queued, caller.listeners) == (1, 0, [])
    assert place.n_running == 0


async def test_a_place_given_to_a_caller_that_has_just_left_is_not_lost() -> None:
    """In the very turn of the loop, whichever was first: it goes to the next, or is the caller's to give back."""
    for leaves_first in (True, False):
        place, caller = bulkhead(), Caller()
        assert place.try_take()
        leaving = asyncio.create_task(place.wait("interactive", departure=caller))
        staying = asyncio.create_task(place.wait("interactive"))
        await asyncio.sleep(0)
        for step in (caller.leaves, place.give_back) if leaves_first else (place.give_back, caller.leaves):
            step()
        if leaves_first:
            with pytest.raises(CallerLeft):
                await leaving
        else:
            await leaving
            place.give_back()
        await staying
        assert (place.n_running, place.n_queued) == (1, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(["interactive", "batch"])),
        st.tuples(st.just("finish"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, n=st.integers(1, 3), queued=st.integers(0, 4))
def test_never_more_than_places_and_none_is_lost(steps: Sequence[tuple[str, object]], n: int, queued: int) -> None:
    """Whoever comes, finishes and is cancelled in whatever order and turn of the loop: at most `n` are inside and
    `queued` wait; nobody waits while a place is free; in the end all places are free."""
    asyncio.run(_run(steps, n, queued))


async def _run(steps: Sequence[tuple[str, object]], n: int, queued: int) -> None:
    place = bulkhead(n, queued)
    gates: list[asyncio.Event] = []
    tasks: list[asyncio.Task[None]] = []
    n_inside = 0

    async def stay(priority: Priority, gate: asyncio.Event) -> None:
        nonlocal n_inside
        async with place.enter(priority):
            n_inside += 1
            assert n_inside <= n
            try:
                await gate.wait()
            finally:
                n_inside -= 1

    for what, value in steps:
        match what, value:
            case "come", ("interactive" | "batch") as priority:
                gates.append(asyncio.Event())
                tasks.append(asyncio.create_task(stay(priority, gates[-1])))
            case "finish", int(i) if gates:
                gates[i % len(gates)].set()
            case "cancel", int(i) if tasks:
                tasks[i % len(tasks)].cancel()
            case "turn", int(turns):
                for _ in range(turns):
                    await asyncio.sleep(0)
        assert place.n_running <= n
        assert place.n_queued <= queued
    for _ in range(10):
        await asyncio.sleep(0)
    assert place.n_running == n_inside
    assert place.n_queued == 0 or n_inside == n
    for gate in gates:
        gate.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in ended} <= {type(None), Overloaded, asyncio.CancelledError}
    assert (place.n_running, place.n_queued) == (0, 0)
