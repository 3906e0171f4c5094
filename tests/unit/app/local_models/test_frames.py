"""The frames between the embedder's two processes."""

from __future__ import annotations

import asyncio
import io
from array import array

import pytest

from app.local_models.frames import (
    MAX_FRAME_BYTES,
    BadFrame,
    Hello,
    Reply,
    Request,
    encode_frame,
    read_frame,
    read_frame_blocking,
    rows_of,
)

REQUEST = Request(7, "urgent", "query", ["Grüße".encode(), b""])


def stream_of(data: bytes) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return stream


async def test_frames_arrive_as_they_were_sent_on_both_sides() -> None:
    """What one side encodes, the other decodes; several frames in a row do not mix."""
    reply = Reply(7, [3, 2], array("f", [0.5] * 8).tobytes())
    stream = stream_of(encode_frame(Hello(384)) + encode_frame(reply))
    assert await read_frame(stream, Hello) == Hello(384)
    assert await read_frame(stream, Reply) == reply
    pipe = io.BytesIO(encode_frame(REQUEST))
    assert read_frame_blocking(pipe, Request) == REQUEST
    assert read_frame_blocking(pipe, Request) is None


async def test_reading_raises_eof_when_the_other_side_dies_in_a_frame() -> None:
    """A crash in the middle of a write is an end, not a hang."""
    with pytest.raises(EOFError):
        await read_frame(stream_of(encode_frame(REQUEST)[:-3]), Request)


@pytest.mark.parametrize(
    "data", [(MAX_FRAME_BYTES + 1).to_bytes(4, "big"), b"\x00\x00\x00\x02hi", b"Traceback (most recent call last)"]
)
async def test_reading_refuses_what_is_no_frame(data: bytes) -> None:
    """Garbage neither allocates gigabytes nor passes as a message."""
    with pytest.raises(BadFrame):
        await read_frame(stream_of(data), Reply)


def test_rows_are_split_by_dimension() -> None:
    """float32[n, dimensions], row-major, back to n rows."""
    assert rows_of(array("f", [1, 2, 3, 4, 5, 6]).tobytes(), 3) == [array("f", [1, 2, 3]), array("f", [4, 5, 6])]
