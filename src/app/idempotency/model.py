"""What a key stands for: whose request at which route, who is at work on it, and what came of it."""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from app.audit.model import PLATFORM_CHAIN
from app.errors import InvalidRequest
from plugins.contract.principal import Principal

HEADER = b"idempotency-key"

MAX_KEY_CHARS = 255
"""Stripe's. A UUID has 36."""


class Place(msgspec.Struct, frozen=True):
    """One key of one caller at one route. `id`: SHA-256 of all three, so that no row tells a key or a path."""

    tenant_id: UUID
    id: bytes


class Claim(msgspec.Struct, frozen=True):
    """The right to do the request of `place`, for as long as it is renewed. `id`: of this run."""

    place: Place
    id: UUID


class Entry(msgspec.Struct, frozen=True):
    """What is known of a place. `status` None: under way. `has_lapsed`: its lease, or its time to be kept, is over."""

    fingerprint: bytes | None
    status: int | None
    answer: bytes | None
    has_lapsed: bool


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it went to the client, all of it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def place_of(principal: Principal, method: str, path: str, key: bytes) -> Place:
    """Raises: InvalidRequest for what is no key."""
    if not 1 <= len(key) <= MAX_KEY_CHARS or not all(0x21 <= char <= 0x7E for char in key):
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {MAX_KEY_CHARS} visible ASCII characters", param="Idempotency-Key"
        )
    # None of the first three holds a line break, so no two places write alike.
    parts = (_caller(principal), method.encode(), path.encode("utf-8", "surrogatepass").hex().encode(), key)
    return Place(principal.tenant_id or PLATFORM_CHAIN, hashlib.sha256(b"\n".join(parts)).digest())


def _caller(principal: Principal) -> bytes:
    """A key before its user: it may do less, and must not read what was answered to more."""
    if principal.key_id is not None:
        return b"key " + principal.key_id.hex.encode()
    if principal.user_id is not None:
        return b"user " + principal.user_id.hex.encode()
    return b"platform" if principal.tenant_id is None else b"anonymous"
