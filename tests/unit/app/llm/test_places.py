"""Places at targets: never more than there are, none lost, and who waited longest is first."""

from __future__ import annotations

import asyncio
import random

import msgspec

from app.llm.model import Target
from app.llm.places import Place, Places


def target(name: str = "one", max_calls: int | None = None) -> Target:
    return Target(id=name, alias="a", provider_model=name, transport="direct", max_calls=max_calls)


def taken(places: Places, one: Target, n: int) -> list[Place]:
    found = [places.take(one) for _ in range(n)]
    return [place for place in found if place is not None]


async def test_bound_is_the_targets_own_or_the_usual_one() -> None:
    """0 is no bound; a tenant's own key has its own account at the vendor."""
    places = Places(2)
    assert len(taken(places, target("usual"), 5)) == 2
    assert len(taken(places, target("own", 3), 5)) == 3
    assert len(taken(places, target("free", 0), 5)) == 5
    assert len(taken(places, msgspec.structs.replace(target("usual"), own_key_id="pkey_1"), 5)) == 5


async def test_a_place_is_given_back_once() -> None:
    """However often its call says that it is over."""
    places, one = Places(1), target()
    (place,) = taken(places, one, 1)
    place.release()
    place.release()
    assert len(taken(places, one, 2)) == 1


async def test_who_waited_longest_is_first_and_nobody_comes_between() -> None:
    """A place is handed over: who comes at that moment finds none."""
    places, one, order = Places(1), target(), list[int]()
    (place,) = taken(places, one, 1)

    async def wait(n: int) -> None:
        found = await places.wait([one], 5.0)
        assert found is not None
        order.append(n)
        found[1].release()

    waiting = [asyncio.create_task(wait(n)) for n in range(3)]
    await asyncio.sleep(0)
    place.release()
    assert places.take(one) is None
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]
    assert places.take(one) is not None


async def test_the_first_target_that_has_room_ends_the_wait() -> None:
    """Of several that are waited for; the others keep their places."""
    places, one, two = Places(1), target("one"), target("two")
    taken(places, one, 1)
    (place,) = taken(places, two, 1)
    waiting = asyncio.create_task(places.wait([one, two], 5.0))
    await asyncio.sleep(0)
    place.release()
    found = await waiting
    assert found is not None
    assert found[0] is two
    assert await places.wait([one, two], 0.01) is None


async def test_nothing_is_lost_by_who_gives_up_just_then() -> None:
    """The place that was given in the same moment is free again."""
    places, one = Places(1), target()
    (place,) = taken(places, one, 1)
    waiting = asyncio.create_task(places.wait([one], 5.0))
    await asyncio.sleep(0)
    place.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert places.take(one) is not None


async def test_never_over_the_bound_whatever_happens() -> None:
    """Calls, waits and cancellations at random: at most three at once, and in the end all are free."""
    chance, places, one, n_held = random.Random(7), Places(3), target(), 0

    async def call() -> None:
        nonlocal n_held
        place = places.take(one)
        if place is None:
            found = await places.wait([one], chance.choice([0.0, 0.001, 1.0]))
            if found is None:
                return
            place = found[1]
        try:
            n_held += 1
            assert n_held <= 3
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            n_held -= 1
            place.release()

    calls = list[asyncio.Task[None]]()
    for _ in range(2_000):
        calls.append(asyncio.create_task(call()))
        if chance.random() < 0.3:
            chance.choice(calls[-20:]).cancel()
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
    assert len(taken(places, one, 9)) == 3
