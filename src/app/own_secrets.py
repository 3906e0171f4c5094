"""Secrets of the deployment. Development makes them and remembers them; production must be given them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.data_directory import make_data_directory, unusable
from app.settings import Settings
from plugins.contract.errors import SettingsError

FILE_NAME = "admin.key"
ENCRYPTION_FILE_NAME = "encryption.key"


class AdminKey(msgspec.Struct, frozen=True):
    """`is_new` is True exactly once in the life of a data directory: then it is printed."""

    value: str
    is_new: bool


def ensure_admin_key(env: Mapping[str, str], settings: Settings) -> AdminKey:
    """`ADMIN_KEY`, else the one generated for this data directory (file mode 0600).

    Raises: SettingsError in production, where it must be set, and for a data directory that cannot be used.
    """
    given = env.get("ADMIN_KEY")
    if given:
        return AdminKey(given, is_new=False)
    if settings.is_production:
        raise SettingsError("ADMIN_KEY is not set: APP_ENV=production needs one of at least 32 characters")
    return _kept(settings, FILE_NAME, f"admin-{secrets.token_urlsafe(32)}")


def access_token_secret(env: Mapping[str, str], settings: Settings) -> str:
    """JWT_SECRET, else one that follows from `ADMIN_KEY`: the same on all replicas, and a new key ends all sessions."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret
    return hmac.digest(env["ADMIN_KEY"].encode(), b"wattos access tokens", hashlib.sha256).hex()


def webhook_key(env: Mapping[str, str]) -> bytes:
    """What secrets of webhooks are derived from: it follows from `ADMIN_KEY`, so a new one is a new secret for all."""
    return hmac.digest(env["ADMIN_KEY"].encode(), b"wattos webhooks", hashlib.sha256)


def encryption_key(settings: Settings) -> str | None:
    """ENCRYPTION_KEY, else the one generated for this data directory; None in production without one."""
    if settings.encryption_key or settings.is_production:
        return settings.encryption_key
    return _kept(settings, ENCRYPTION_FILE_NAME, base64.b64encode(os.urandom(32)).decode()).value


def _kept(settings: Settings, name: str, fresh: str) -> AdminKey:
    """What the file holds; `fresh`, if there is none. Raises: SettingsError."""
    try:
        return _kept_at(make_data_directory(settings) / name, fresh)
    except OSError as exc:
        raise unusable(settings, exc) from exc


def _kept_at(path: Path, value: str) -> AdminKey:
    stored = _read(path)
    if stored:
        return AdminKey(stored, is_new=False)
    # Linked into place: of two processes that start at once, one wins and both use its key.
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(value)
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return AdminKey(_read(path) or value, is_new=False)
    finally:
        fresh.unlink()
    return AdminKey(value, is_new=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
