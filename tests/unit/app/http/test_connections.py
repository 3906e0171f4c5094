"""Who keeps his place, and who goes: with a clock of the test's own."""

from __future__ import annotations

import asyncio

from app.http.connections import Connections


class One:
    """Notes how it was told to end."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def time_out(self) -> None:
        self.told.append("time_out")

    def make_room(self) -> None:
        self.told.append("make_room")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_full_house_lets_the_longest_waiting_go() -> None:
    """Not the first to come, but the first to wait; those at work stay."""
    connections = Connections(max_connections=3, header_timeout_s=10, clock=Clock())
    working, again, waiting, fourth, fifth = One(), One(), One(), One(), One()
    for one in (working, again, waiting):
        assert connections.opened(one)
    connections.works(working)
    connections.works(again)
    connections.waits(again)
    assert connections.opened(fourth)
    assert (working.told, again.told, waiting.told) == ([], [], ["make_room"])
    assert connections.opened(fifth)
    assert again.told == ["make_room"]


async def test_who_comes_while_all_are_at_work_is_refused() -> None:
    """And let in once one has left."""
    connections = Connections(max_connections=2, header_timeout_s=10, clock=Clock())
    first, second, third = One(), One(), One()
    for one in (first, second):
        assert connections.opened(one)
        connections.works(one)
    assert not connections.opened(third)
    connections.closed(first)
    assert connections.opened(third)
    assert (second.told, third.told) == ([], [])


async def test_waiting_ends_at_the_time_out_and_work_does_not() -> None:
    """Each has its own time; a request that is being answered may take as long as it likes."""
    clock = Clock()
    connections = Connections(max_connections=9, header_timeout_s=0.04, clock=clock)
    early, late, working = One(), One(), One()
    connections.opened(early)
    connections.opened(working)
    connections.works(working)
    clock.now_s = 0.03
    connections.opened(late)
    clock.now_s = 0.05
    async with asyncio.timeout(5):
        while not early.told:  # noqa: ASYNC110  # the loop's own timer is what is waited for
            await asyncio.sleep(0)
    assert (early.told, late.told, working.told) == (["time_out"], [], [])
