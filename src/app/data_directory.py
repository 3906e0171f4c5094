"""DATA_DIR: made where it is missing, refused in one line where it cannot be."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings
from plugins.contract.errors import SettingsError


def make_data_directory(settings: Settings) -> Path:
    """Raises: SettingsError that names value, reason and remedy."""
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise unusable(settings, exc) from exc
    return settings.data_path


def unusable(settings: Settings, exc: OSError) -> SettingsError:
    return SettingsError(
        f"DATA_DIR={settings.data_dir!r} cannot be used ({exc.strerror}): give a directory that this user may write"
    )
