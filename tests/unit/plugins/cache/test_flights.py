"""Single flight: one computation a key, for all who wait, and no longer than somebody waits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.cache.flights import Flight, Flights
from plugins.contract.errors import RetryableError

pytestmark = pytest.mark.requirement("PERF-1")


class Work:
    """Ends when told to; knows how often it began and how often it was cancelled."""

    def __init__(self, result: bytes | Exception = b"made") -> None:
        self.result = result
        self.may_end = asyncio.Event()
        self.n_begun = self.n_cancelled = 0

    async def __call__(self, flight: Flight) -> bytes:
        self.n_begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.n_cancelled += 1
            raise
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_all_who_ask_meanwhile_share_one_computation() -> None:
    """And the next who asks afterwards begins another."""
    flights, work = Flights(), Work()
    asking = [asyncio.create_task(flights.join("k", (), work)) for _ in range(50)]
    await turns()
    work.may_end.set()
    assert await asyncio.gather(*asking) == [b"made"] * 50
    assert work.n_begun == 1
    assert await flights.join("k", (), work) == b"made"
    assert work.n_begun == 2


async def test_a_failure_is_given_to_all_who_wait_and_is_not_kept() -> None:
    """The next who asks gets a computation of his own."""
    flights, work = Flights(), Work(ValueError("no"))
    asking = [asyncio.create_task(flights.join("k", (), work)) for _ in range(3)]
    await turns()
    work.may_end.set()
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(failure) for failure in failures] == ["no"] * 3
    work.result = b"made"
    assert await flights.join("k", (), work) == b"made"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_who_leaves_ends_nothing_for_the_others_and_the_last_ends_it(leaves: list[bool]) -> None:
    """Whoever leaves, the first one included, whose task began it."""

    async def run() -> None:
        flights, work = Flights(), Work()
        asking = [asyncio.create_task(flights.join("k", (), work)) for _ in leaves]
        await turns()
        for task, leaving in zip(asking, leaves, strict=True):
            if leaving:
                task.cancel()
        await turns()
        assert work.n_cancelled == (1 if all(leaves) else 0)
        assert ("k" in flights) is not all(leaves)
        work.may_end.set()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        for result, leaving in zip(ended, leaves, strict=True):
            assert isinstance(result, asyncio.CancelledError) if leaving else result == b"made"
        assert work.n_begun == 1

    asyncio.run(run())


async def test_who_asks_after_all_left_begins_anew() -> None:
    """What is being cancelled is not joined."""
    flights, work, next_work = Flights(), Work(), Work(b"next")
    first = asyncio.create_task(flights.join("k", (), work))
    await turns()
    first.cancel()
    await turns(1)
    next_work.may_end.set()
    assert await flights.join("k", (), next_work) == b"next"
    await asyncio.gather(first, return_exceptions=True)
    assert work.n_cancelled == 1


async def test_in_the_background_one_at_a_time_whoever_comes_and_goes() -> None:
    """Its failure reaches nobody; one who joins and leaves does not end it."""
    flights, work = Flights(), Work(ValueError("no"))
    flights.start("k", (), work)
    flights.start("k", (), work)
    joined = asyncio.create_task(flights.join("k", (), work))
    await turns()
    joined.cancel()
    await turns()
    assert (work.n_begun, work.n_cancelled) == (1, 0)
    work.may_end.set()
    await turns()
    assert "k" not in flights


@pytest.mark.parametrize(("tag", "is_hit"), [("t", True), (None, True), ("u", False)])
async def test_what_was_dropped_meanwhile_is_not_joined_any_more(tag: str | None, is_hit: bool) -> None:
    """Those who asked before get it all the same."""
    flights, work, later = Flights(), Work(), Work(b"later")
    flight = asyncio.create_task(flights.join("k", ("t",), work))
    await turns()
    flights.outdate(tag)
    asking = asyncio.create_task(flights.join("k", ("t",), later))
    await turns()
    assert later.n_begun == is_hit
    work.may_end.set()
    later.may_end.set()
    assert await flight == b"made"
    assert await asking == (b"later" if is_hit else b"made")


async def test_at_the_end_those_who_wait_get_an_error_and_are_not_cancelled() -> None:
    """And nothing runs on."""
    flights, work = Flights(), Work()
    asking = asyncio.create_task(flights.join("k", (), work))
    await turns()
    await flights.close()
    with pytest.raises(RetryableError):
        await asking
    assert work.n_cancelled == 1
