"""What stands in Valkey: whole, ours, of this format, or nothing."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.envelope import FORMAT, IN_A_THREAD_BYTES, packed, unpacked

pytestmark = pytest.mark.requirement("PERF-1")

MAX_BYTES = 1 << 20


def enveloped(body: bytes, *, magic: bytes = b"Wc", version: int = FORMAT, packing: int = 0, n_bytes: int = 3) -> bytes:
    return struct.pack(">2sBBI", magic, version, packing, n_bytes) + body


@given(st.binary(max_size=200), st.integers(0, 100), st.integers(0, 100))
async def test_any_value_comes_back_whole(value: bytes, n_times: int, compress_above_bytes: int) -> None:
    """Compressed or not."""
    data = await packed(value * n_times, compress_above_bytes=compress_above_bytes)
    assert await unpacked(data, max_bytes=MAX_BYTES) == value * n_times


async def test_a_long_value_comes_back_whole() -> None:
    """Packed in a thread."""
    value = b"answer " * IN_A_THREAD_BYTES
    data = await packed(value, compress_above_bytes=0)
    assert len(data) < len(value) / 100
    assert await unpacked(data, max_bytes=len(value)) == value


async def test_what_hardly_gets_shorter_is_left_as_it_is() -> None:
    """Vectors, say: nobody need unpack them."""
    vector = struct.pack("<500d", *(1 / (n + 1.7) for n in range(500)))
    assert (await packed(vector, compress_above_bytes=0))[3] == 0
    assert (await packed(b"text " * 1000, compress_above_bytes=4096))[3] == 1
    assert (await packed(b"text " * 1000, compress_above_bytes=5000))[3] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Wc",
        enveloped(b"abc", magic=b"XX"),
        enveloped(b"abc", version=FORMAT + 1),
        enveloped(b"abc", packing=7),
        enveloped(b"ab"),
        enveloped(b"abcd"),
        enveloped(b"abc", packing=1),
        enveloped(zlib.compress(b"abcd"), packing=1),
        enveloped(zlib.compress(b"abc")[:-6], packing=1),
        enveloped(b"", n_bytes=MAX_BYTES + 1),
    ],
)
async def test_what_is_not_ours_or_not_whole_is_nothing(data: bytes) -> None:
    """Another release's, somebody else's, cut off, or longer than it says."""
    assert await unpacked(data, max_bytes=MAX_BYTES) is None


@given(st.binary(max_size=40), st.integers(0, 255), st.integers(0, 39))
async def test_no_damage_is_an_exception(value: bytes, byte: int, at: int) -> None:
    """A shared server may hold anything."""
    data = bytearray(await packed(value * 10, compress_above_bytes=0))
    data[at % len(data)] = byte
    found = await unpacked(bytes(data), max_bytes=MAX_BYTES)
    assert found is None or len(found) <= MAX_BYTES


async def test_a_bomb_is_not_unpacked() -> None:
    """Of 100 MB that say they are 1,000 bytes no more than those are made."""
    bomb = enveloped(zlib.compress(bytes(100_000_000), 9), packing=1, n_bytes=1000)
    tracemalloc.start()
    assert await unpacked(bomb, max_bytes=MAX_BYTES) is None
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
