"""Work for a client that may leave."""

from __future__ import annotations

import asyncio

import pytest
from litestar.exceptions import HTTPException

from app.http.disconnect import Departure, while_connected
from plugins.contract.requests import CLIENT_CLOSED_REQUEST, DEPARTURE
from unit.app.http.support import bare_request

TIMEOUT_S = 5.0


class Client:
    """The other end of one request whose body has been read."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()
        self.n_waiting = 0
        self.request = bare_request()
        self.request.receive = self._receive  # type: ignore[method-assign, assignment]

    async def _receive(self) -> dict[str, str]:
        self.n_waiting += 1
        try:
            await self.has_left.wait()
        finally:
            self.n_waiting -= 1
        return {"type": "http.disconnect"}


class Work:
    """Does not end by itself; notes how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.was_cancelled = False

    async def run(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_work_that_ends_is_answered_and_nothing_waits_on() -> None:
    """Its result as it is, and its error as it is."""
    client = Client()

    async def fails() -> None:
        raise ValueError("mine")

    async with asyncio.timeout(TIMEOUT_S):
        assert await while_connected(client.request, asyncio.sleep(0, "done")) == "done"
        with pytest.raises(ValueError, match="mine"):
            await while_connected(client.request, fails())
        await asyncio.sleep(0)  # the cancelled listener's turn
    assert client.n_waiting == 0


async def test_client_that_leaves_stops_its_work() -> None:
    """Defect 11: what nobody waits for is cancelled, within the turn of the loop; 499 for the log."""
    client, work = Client(), Work()
    task = asyncio.create_task(while_connected(client.request, work.run()))
    async with asyncio.timeout(TIMEOUT_S):
        await work.begun.wait()
        client.has_left.set()
        with pytest.raises(HTTPException) as closed:
            await task
    assert closed.value.status_code == CLIENT_CLOSED_REQUEST
    assert work.was_cancelled


async def test_cancellation_from_outside_stays_one() -> None:
    """A server that stops is no client that left, not even when both happen at once."""
    for leaves_too in (False, True):
        client, work = Client(), Work()
        task = asyncio.create_task(while_connected(client.request, work.run()))
        async with asyncio.timeout(TIMEOUT_S):
            await work.begun.wait()
            if leaves_too:
                client.has_left.set()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert work.was_cancelled


async def test_our_own_protocol_tells_of_it_by_a_callback() -> None:
    """No task waits beside the work; who has left before it began is not worked for."""
    client, work, departure = Client(), Work(), Departure()
    client.request.scope[DEPARTURE] = departure  # type: ignore[literal-required]
    task = asyncio.create_task(while_connected(client.request, work.run()))
    async with asyncio.timeout(TIMEOUT_S):
        await work.begun.wait()
        assert client.n_waiting == 0
        departure.happens()
        with pytest.raises(HTTPException) as closed:
            await task
        assert closed.value.status_code == CLIENT_CLOSED_REQUEST
        late = Work()
        with pytest.raises(HTTPException):
            await asyncio.create_task(while_connected(client.request, late.run()))
    assert work.was_cancelled


async def test_work_that_ended_is_not_told_of_a_departure() -> None:
    """The connection lives on for the next request: what happens to it then is not this one's affair."""
    client, departure = Client(), Departure()
    client.request.scope[DEPARTURE] = departure  # type: ignore[literal-required]
    assert await while_connected(client.request, asyncio.sleep(0, "done")) == "done"
    departure.happens()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
