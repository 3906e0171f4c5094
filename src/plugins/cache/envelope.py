"""How a value stands in Valkey: marked with our format, compressed where that pays. Nothing else is read."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable
from typing import Final

FORMAT: Final = 1
"""Grows with each change of what stands in Valkey: it is in every key, too, so releases of both formats live side by
side and never read each other's."""

_HEADER: Final = struct.Struct(">2sBBI")
"""Magic, format, packing, length of the value."""
_MAGIC: Final = b"Wc"
_PLAIN, _ZLIB = 0, 1

LEVEL: Final = 1
"""zlib's fastest: 100 kB of text in 0.9 ms to 0.30 of it; level 6 takes 4.3 ms, to 0.25 (tests/bench/cache.py)."""

WORTH: Final = 0.9
"""Compressed must be at most this part of the value: vectors, of which 0.93 are left, need not be unpacked."""

IN_A_THREAD_BYTES: Final = 64 * 1024
"""A longer one would hold up the loop for more than 0.6 ms, or 2.5 ms if it is all vectors."""


async def packed(value: bytes, *, compress_above_bytes: int) -> bytes:
    if len(value) <= compress_above_bytes:
        return _HEADER.pack(_MAGIC, FORMAT, _PLAIN, len(value)) + value
    short = await _run(len(value), zlib.compress, value, LEVEL)
    if len(short) > WORTH * len(value):
        return _HEADER.pack(_MAGIC, FORMAT, _PLAIN, len(value)) + value
    return _HEADER.pack(_MAGIC, FORMAT, _ZLIB, len(value)) + short


async def unpacked(data: bytes, *, max_bytes: int) -> bytes | None:
    """None for what is not ours, not whole, or longer than `max_bytes`: no more than that is ever unpacked."""
    if len(data) < _HEADER.size:
        return None
    magic, version, packing, n_bytes = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != FORMAT or n_bytes > max_bytes:
        return None
    body = data[_HEADER.size :]
    if packing == _ZLIB:
        body = await _run(n_bytes, _inflated, body, n_bytes)
    elif packing != _PLAIN:
        return None
    return body if len(body) == n_bytes else None


def _inflated(data: bytes, n_bytes: int) -> bytes:
    """One byte more than expected at most: its length shows that it is not what it says."""
    try:
        return zlib.decompressobj().decompress(data, n_bytes + 1)
    except zlib.error:
        return bytes(n_bytes + 1)


async def _run(n_bytes: int, work: Callable[[bytes, int], bytes], data: bytes, parameter: int) -> bytes:
    if n_bytes <= IN_A_THREAD_BYTES:
        return work(data, parameter)
    return await asyncio.to_thread(work, data, parameter)
