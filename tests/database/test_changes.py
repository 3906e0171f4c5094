"""What changes, as it is heard: at once, and vouched for only while it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import psycopg
import pytest

from app.database.changes import ChangeListener


@pytest.fixture
async def listener(database_url: str) -> AsyncIterator[ChangeListener]:
    made = ChangeListener()
    made.start(database_url)
    await eventually(lambda: made.vouched_until(time.monotonic() - 0.1) > time.monotonic() - 0.1)
    yield made
    await made.stop()


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def notify(url: str, *payloads: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for payload in payloads:
            await connection.execute("select pg_notify('changes', %s)", [payload])


async def cut(url: str) -> int:
    """How many listening connections were ended."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        ended = await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'wattos changes' and datname = current_database()"
        )
        return len(await ended.fetchall())


async def heard_since(listener: ChangeListener, asked_at_s: float) -> None:
    """An answer asked for then is vouched for later than it was asked."""
    await eventually(lambda: listener.vouched_until(asked_at_s) > asked_at_s)


async def test_a_change_is_heard_at_once_by_everybody(database_url: str, listener: ChangeListener) -> None:
    """Whatever its bytes are; what is no handle is somebody else's."""
    first: list[bytes] = []
    second: list[bytes] = []
    listener.subscribe(first.append)
    listener.subscribe(second.append)
    asked_at_s = time.monotonic()
    await asyncio.sleep(0.3)
    await notify(database_url, "6b00ff", "no handle", "", "73" + uuid4().hex)
    await eventually(lambda: len(first) == 3)
    assert first == second
    assert first[0] == b"k\x00\xff"
    await heard_since(listener, asked_at_s + 0.3)


async def test_a_hundred_at_once_are_all_heard(database_url: str, listener: ChangeListener) -> None:
    """Also those that come while it asks whether it is still heard."""
    heard: list[bytes] = []
    listener.subscribe(heard.append)
    wanted = [n.to_bytes(4, "big") for n in range(1, 501)]
    for at in range(0, 500, 50):
        await asyncio.gather(*(notify(database_url, one.hex()) for one in wanted[at : at + 50]))
    await eventually(lambda: len(heard) == 500)
    assert sorted(heard) == wanted


async def test_what_was_asked_before_a_break_is_vouched_for_until_it(
    database_url: str, listener: ChangeListener
) -> None:
    """Not beyond: what changed in between was told to nobody. What is asked afterwards is vouched for again."""
    before_s = time.monotonic() + 0.3
    await asyncio.sleep(0.4)
    await heard_since(listener, before_s)
    assert await cut(database_url) == 1
    cut_s = time.monotonic()
    await asyncio.sleep(1.0)
    assert before_s <= listener.vouched_until(before_s) <= cut_s
    after_s = time.monotonic()
    await heard_since(listener, after_s)
    assert listener.vouched_until(before_s) <= cut_s


async def test_before_it_is_heard_nothing_is_vouched_for() -> None:
    """Nor when it was never started."""
    assert ChangeListener().vouched_until(17.0) == 17.0
