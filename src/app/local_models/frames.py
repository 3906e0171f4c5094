"""What the embedder's two processes say to each other: a length (4 bytes, big endian), then one msgpack message."""

from __future__ import annotations

import asyncio
from array import array
from typing import BinaryIO, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

Kind: TypeAlias = Literal["query", "passage"]
"""How the model is to read a text: as a question, or as something that may answer one. Their vectors differ."""
Lane: TypeAlias = Literal["urgent", "bulk", "count"]
"""Which of the child's threads does the work: short queries, everything else, or counting tokens."""
Row: TypeAlias = "array[float]"
"""float32[dimensions], a unit vector: `array("f")`, 1.5 KB where a list of floats takes 12 KB. `.tolist()` for a driver
that wants a list, `.tobytes()` for base64, `numpy.asarray(row)` without a copy."""

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 22
"""Sixteen times the largest text: what is longer is not a frame, but garbage."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One batch. Texts are UTF-8."""

    id: int
    lane: Lane
    kind: Kind
    texts: list[bytes]


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one batch. `rows`: float32[len(texts), dimensions], native byte order, empty when only counted.

    `failure`: the batch could not be done at all; then the rest is empty.
    """

    id: int
    n_tokens: list[int] = []
    rows: bytes = b""
    failure: str | None = None


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The child's first frame: it is ready."""

    dimensions: int


class BadFrame(Exception):
    """The stream does not hold what it should: the two processes no longer understand each other."""


def encode_frame(message: msgspec.Struct) -> bytes:
    """The message as it goes over the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_frame(stream: asyncio.StreamReader, message_type: type[T]) -> T:
    """The next message. Raises: EOFError (IncompleteReadError) at the end, BadFrame."""
    length = _length(await stream.readexactly(LENGTH_BYTES))
    return _decode(await stream.readexactly(length), message_type)


def read_frame_blocking(stream: BinaryIO, message_type: type[T]) -> T | None:
    """The next message, None at the end. Raises: BadFrame."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    body = stream.read(_length(head))
    return _decode(body, message_type)


def rows_of(buffer: bytes, dimensions: int) -> list[Row]:
    """Split `Reply.rows`."""
    values = array("f")
    values.frombytes(buffer)
    return [values[start : start + dimensions] for start in range(0, len(values), dimensions)]


def _length(head: bytes) -> int:
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME_BYTES:
        raise BadFrame(f"a frame of {length} bytes")
    return length


def _decode(body: bytes, message_type: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(body, type=message_type)
    except msgspec.MsgspecError as exc:
        raise BadFrame(f"not a {message_type.__name__}") from exc
