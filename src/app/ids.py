"""Ids as clients see them: a prefix that names the kind, and a UUIDv7 in hex (sortable by time of creation)."""

from __future__ import annotations

import re
from typing import Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from app.errors import NotFound
from plugins.contract.ids import shown_id

Prefix = Literal["ten", "user", "key", "pkey", "evt", "call", "bud", "price", "prov", "file", "vs", "chatcmpl", "msg"]

NOUNS: dict[Prefix, str] = {
    "ten": "tenant",
    "user": "user",
    "key": "key",
    "pkey": "provider key",
    "evt": "event",
    "call": "call",
    "bud": "budget",
    "price": "price",
    "prov": "provider",
    "file": "file",
    "vs": "vector store",
    "chatcmpl": "completion",
    "msg": "message",
}
"""What a prefix stands for, in words: a malformed id and one that is not there get the same answer."""


_HEX = re.compile("[0-9a-f]{32}")


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()


def encode_id(prefix: Prefix, value: UUID) -> str:
    """`file_0190…`: prefix, underscore, 32 hex digits."""
    return shown_id(prefix, value)


def decode_id(prefix: Prefix, text: str) -> UUID:
    """The inverse of `encode_id`. Raises: NotFound: a malformed id names nothing that exists."""
    head, _, digits = text.partition("_")
    if head == prefix and _HEX.fullmatch(digits):  # one spelling: UUID() alone would take several
        return UUID(hex=digits)
    raise NotFound(f"no {NOUNS[prefix]} with this id")
