"""What is written of an answer, and when: its head goes out with what follows at once, and never waits for more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.http.ending import SHORT_BYTES, Ending


class Wire:
    """A transport that keeps what is sent, a system call each."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def ending(wire: Any) -> Ending:
    ending = Ending(wire, asyncio.get_running_loop())
    ending.hold()
    return ending


async def test_a_head_goes_out_with_what_follows_at_once(wire: Wire, ending: Ending) -> None:
    """What comes after that goes by itself."""
    ending.write(b"head ")
    assert wire.sent == []
    ending.write(b"body ")
    ending.write(b"more")
    await asyncio.sleep(0)
    assert wire.sent == [b"head body ", b"more"]


async def test_a_head_without_more_does_not_wait(wire: Wire, ending: Ending) -> None:
    """Of a stream whose first piece is not there yet, or of an answer without a body."""
    ending.write(b"head")
    await asyncio.sleep(0)
    assert wire.sent == [b"head"]
    ending.write(b"body")
    assert wire.sent == [b"head", b"body"]


async def test_each_answer_has_its_own(wire: Wire, ending: Ending) -> None:
    """On one connection, a request that comes early included."""
    for _ in range(2):
        ending.write(b"head ")
        ending.hold()
        ending.write(b"body")
        ending.hold()
    await asyncio.sleep(0)
    assert wire.sent == [b"head body"] * 2


async def test_a_long_body_is_not_copied(wire: Wire, ending: Ending) -> None:
    ending.write(b"head")
    ending.write(body := bytes(SHORT_BYTES + 1))
    assert wire.sent == [b"head", body]
    assert wire.sent[1] is body


async def test_what_is_held_goes_out_before_the_end(wire: Wire, ending: Ending) -> None:
    ending.write(b"head")
    ending.close()
    assert (wire.sent, wire.is_closed) == ([b"head"], True)
    ending.done()
