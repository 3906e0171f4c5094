"""The body of a request that was received to its end: read without waiting, and never twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from litestar import post
from litestar.exceptions import HTTPException

from app.http.request import WHOLE, BoundedRequest, request_class

if TYPE_CHECKING:
    from litestar.types import Message

MAX_BYTES = 8


@post("/", request_max_body_size=MAX_BYTES)
async def route() -> None:
    """Never called."""


class Received:
    """ASGI's `receive` for a request that came whole, in these pieces; then nothing more comes."""

    def __init__(self, *pieces: bytes) -> None:
        last = len(pieces) - 1
        self.messages: list[Any] = [
            {"type": "http.request", "body": piece, "more_body": number < last} for number, piece in enumerate(pieces)
        ]

    async def __call__(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        message: Message = self.messages.pop(0)
        return message


def request(receive: Received, scope: dict[str, Any] | None = None, *headers: tuple[bytes, bytes]) -> BoundedRequest:
    made: Any = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [*headers],
        "route_handler": route,
        "state": {},
        WHOLE: True,
    }
    return request_class(body_timeout_s=0.05)(made if scope is None else scope, receive=receive)  # type: ignore[arg-type]


async def status_of(asked: BoundedRequest) -> int:
    with pytest.raises(HTTPException) as raised:
        await asked.body()
    return raised.value.status_code


async def test_a_body_that_is_there_is_read_once_and_kept() -> None:
    """In whatever pieces it is handed over."""
    asked = request(Received(b"ab", b"cd", b""))
    assert await asked.body() == b"abcd"
    assert await asked.body() == b"abcd"


async def test_what_is_too_large_stays_so() -> None:
    """Asked again, a refusal never becomes an empty body."""
    asked = request(Received(b"x" * (MAX_BYTES + 1)))
    assert await status_of(asked) == 413
    assert await status_of(asked) == 499


async def test_who_leaves_is_told_apart_from_who_says_nothing() -> None:
    """A departure is no empty body."""
    left = Received()
    left.messages = [{"type": "http.disconnect"}]
    assert await status_of(request(left)) == 499
    assert await request(Received(b"")).body() == b""


async def test_another_object_for_the_same_request_does_not_wait_for_ever() -> None:
    """What was read is gone."""
    receive = Received(b"ab")
    first = request(receive)
    assert await first.body() == b"ab"
    assert await status_of(request(receive, dict(first.scope))) == 408  # type: ignore[call-overload]


async def test_a_body_that_was_streamed_is_gone() -> None:
    """Nobody takes it for an empty one."""
    asked = request(Received(b"ab"))
    assert [piece async for piece in asked.stream()] == [b"ab", b""]
    assert await status_of(asked) == 499


async def test_other_media_are_refused_first() -> None:
    """As with a body that is still to come."""
    assert await status_of(request(Received(b"ab"), None, (b"content-type", b"application/pdf"))) == 415
