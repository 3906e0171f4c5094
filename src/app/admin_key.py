"""The platform administrator's key. Development makes one and remembers it; production must be given one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.data_directory import make_data_directory, unusable
from app.settings import Settings
from plugins.contract.errors import SettingsError

FILE_NAME = "admin.key"


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
    try:
        return _kept(make_data_directory(settings) / FILE_NAME)
    except OSError as exc:
        raise unusable(settings, exc) from exc


def _kept(path: Path) -> AdminKey:
    stored = _read(path)
    if stored:
        return AdminKey(stored, is_new=False)
    value = f"admin-{secrets.token_urlsafe(32)}"
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
