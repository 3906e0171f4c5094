"""Records as they lie in a journal's file: length, checksum, MessagePack. A torn or damaged end is recognised."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import msgspec

from app.billing.model import Record

_HEADER = struct.Struct("<II")
"""Length of what follows in bytes, and its CRC-32."""

MAX_RECORD_BYTES = 1 << 20

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")  # a third less on disk; read in either spelling
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def framed(record: Record) -> bytes:
    data = _encoder.encode(record)
    return _HEADER.pack(len(data), zlib.crc32(data)) + data


class Damaged(Exception):
    """A frame that no crash explains: its bytes are all there, and are not what was written."""


def unframed(data: bytes) -> Iterator[tuple[Record, int]]:
    """The whole records from the front of `data`, each with the offset behind it. What is torn off at the end is left.

    Raises: Damaged.
    """
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        if length > MAX_RECORD_BYTES:
            raise Damaged
        end = at + _HEADER.size + length
        if end > len(data):
            return
        payload = data[at + _HEADER.size : end]
        if zlib.crc32(payload) != checksum:
            raise Damaged
        try:
            record = _decoder.decode(payload)
        except msgspec.DecodeError as exc:
            raise Damaged from exc
        yield record, end
        at = end
