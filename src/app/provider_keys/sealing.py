"""Secrets at rest: AES-256-GCM, each bound to its place, with keys from the environment that can be rotated.

Sealed is: version (1 byte) ‖ id of the key (8 bytes) ‖ nonce (12) ‖ ciphertext and tag. What it is bound to (tenant,
row, vendor) is authenticated with it, so that a ciphertext moved to another row or tenant does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from typing import Final, Self

from app.errors import NotConfigured
from plugins.contract.errors import SettingsError, WattosError

_VERSION: Final = b"\x01"
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32

MADE_WITH = "python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"


class CannotOpen(WattosError):
    """A sealed secret was changed, or is for a key that is not in ENCRYPTION_KEY (any more)."""

    code = "cannot_open"


class Seal:
    """Seals with the first key, opens with any of them."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        """`keys`: of 32 bytes. None at all: nothing can be sealed."""
        self._keys = {_id_of(key): key for key in keys}
        self._current = _id_of(keys[0]) if keys else b""

    @classmethod
    def of(cls, text: str | None) -> Self:
        """From ENCRYPTION_KEY: keys in base64, separated by commas. Raises: SettingsError."""
        return cls(tuple(_decoded(part.strip()) for part in (text or "").split(",") if part.strip()))

    def close(self, secret: str, bound_to: str) -> bytes:
        """Raises: NotConfigured without a key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 9 MB, for who has such keys

        if not self._current:
            raise NotConfigured("ENCRYPTION_KEY is not set, so no secrets can be kept: the operator sets it")
        nonce = os.urandom(_NONCE_BYTES)
        head = _VERSION + self._current
        cipher = AESGCM(self._keys[self._current])
        return head + nonce + cipher.encrypt(nonce, secret.encode(), head + bound_to.encode())

    def open(self, sealed: bytes, bound_to: str) -> str:
        """Raises: CannotOpen."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        head, rest = sealed[: 1 + _ID_BYTES], sealed[1 + _ID_BYTES :]
        key = self._keys.get(head[1:])
        if key is None or head[:1] != _VERSION:
            raise CannotOpen("a secret was sealed with a key that is not in ENCRYPTION_KEY")
        try:
            opened = AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + bound_to.encode())
        except (InvalidTag, ValueError):
            raise CannotOpen("a sealed secret was changed, or is not where it was put") from None
        return opened.decode()

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the first key."""
        return sealed[1 : 1 + _ID_BYTES] == self._current


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"wattos encryption key\n" + key).digest()[:_ID_BYTES]


def _decoded(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"ENCRYPTION_KEY=… must be 32 bytes in base64, or several separated by commas: {MADE_WITH}")
    return key
