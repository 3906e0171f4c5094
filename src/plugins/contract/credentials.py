"""API keys as both sides know them: the app makes them, the security plugin recognises them. Knows no storage."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

KEY_PREFIX = "sk-wattos-"
"""Every API key begins with this, so that secret scanners and people recognise one."""

CREDENTIAL_NEEDED = "a valid API key is needed: Authorization: Bearer sk-wattos-…"
"""The one message for no, unknown, malformed, expired and revoked credentials: nothing can be guessed from it."""

_N_RANDOM_BYTES = 32  # 256 bits in 43 url-safe characters; a plain SHA-256 is enough to store so much randomness
_N_SHOWN = 4  # characters of the random part that lists may show: 24 of its 256 bits


class NewKey(NamedTuple):
    """A key at birth. `key` is shown once and never stored; `prefix` may be listed; `sha256`: bytes[32], to find it."""

    key: str
    prefix: str
    sha256: bytes


def generate_key() -> NewKey:
    """A fresh key with 256 random bits."""
    key = KEY_PREFIX + secrets.token_urlsafe(_N_RANDOM_BYTES)
    return NewKey(key, key[: len(KEY_PREFIX) + _N_SHOWN], hash_key(key))


def hash_key(key: str) -> bytes:
    """SHA-256 of the whole key, prefix included: bytes[32], what `KeyLookup.find` takes."""
    return hashlib.sha256(key.encode()).digest()
