"""Credentials as both sides know them: the app makes them, the security plugin recognises them. Knows no storage."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple
from uuid import UUID

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
    """SHA-256 of the whole key, prefix included: bytes[32]."""
    return hashlib.sha256(key.encode()).digest()


KEY, SESSION, EXTERNAL, TENANTS_OWN = b"k", b"s", b"x", b"p"
PRICES, BUDGETS = b"$", b"b"
LIMITS = b"l"
"""First byte of a handle: its kind. The database announces changes by handle, in hex (channel `changes`)."""


def key_handle(sha256: bytes) -> bytes:
    """What `IdentityLookup.find` is asked for an API key."""
    return KEY + sha256


def session_handle(session_id: UUID) -> bytes:
    """What it is asked for a session."""
    return SESSION + session_id.bytes


def external_handle(tenant_slug: str, subject: str) -> bytes:
    """What it is asked for a user of an external provider. A slug holds no line break."""
    return EXTERNAL + f"{tenant_slug}\n{subject}".encode()


def provider_keys_handle(tenant_id: UUID) -> bytes:
    """What is announced when a tenant's own keys of vendors change."""
    return TENANTS_OWN + tenant_id.bytes


def prices_handle(tenant_id: UUID) -> bytes:
    """What is announced when a tenant's own prices change."""
    return PRICES + tenant_id.bytes


def budgets_handle(tenant_id: UUID) -> bytes:
    """What is announced when a tenant's budgets change."""
    return BUDGETS + tenant_id.bytes


def limits_handle(tenant_id: UUID) -> bytes:
    """What is announced when limits of a tenant, its users or its keys change."""
    return LIMITS + tenant_id.bytes
