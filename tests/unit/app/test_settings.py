"""The app's settings and the administrator's key."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.own_secrets import ensure_admin_key
from app.settings import read_settings
from plugins.contract.errors import SettingsError


def test_production_refuses_the_embedded_database() -> None:
    """The embedded PostgreSQL is for development only."""
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        read_settings({"APP_ENV": "production"})


def test_an_administrator_key_is_made_once_in_development(tmp_path: Path) -> None:
    """Generated at the first start, kept with mode 0600, the same ever after."""
    settings = read_settings({"DATA_DIR": str(tmp_path / "with space")})
    first = ensure_admin_key({}, settings)
    again = ensure_admin_key({}, settings)
    assert first.is_new
    assert not again.is_new
    assert first.value == again.value
    assert len(first.value) >= 32
    (kept,) = settings.data_path.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_given_administrator_key_wins(tmp_path: Path) -> None:
    """ADMIN_KEY is used as it is, and nothing is written."""
    settings = read_settings({"DATA_DIR": str(tmp_path / "data")})
    assert ensure_admin_key({"ADMIN_KEY": "x" * 32}, settings).value == "x" * 32
    assert not settings.data_path.exists()


def test_production_refuses_to_make_an_administrator_key() -> None:
    """In production it must be given."""
    settings = read_settings({"APP_ENV": "production", "DATABASE_URL": "postgresql://db/wattos"})
    with pytest.raises(SettingsError, match="ADMIN_KEY"):
        ensure_admin_key({}, settings)


@pytest.mark.parametrize("directory", ["/proc/no/such", "/etc/passwd/data"])
def test_a_data_directory_that_cannot_be_used_is_named(directory: str) -> None:
    """One line with variable, value and remedy, and no stack trace."""
    with pytest.raises(SettingsError, match=f"DATA_DIR='{directory}' cannot be used .*: give a directory"):
        ensure_admin_key({}, read_settings({"DATA_DIR": directory}))


@pytest.mark.parametrize("url", ["mysql://wattos@db/wattos", "db.example:5432", "sqlite:///data.db", "null"])
def test_only_a_postgresql_address_is_a_database(url: str) -> None:
    """Refused when settings are read, not when the pool opens."""
    with pytest.raises(SettingsError, match=r"DATABASE_URL='.*' cannot be used: it takes postgresql://"):
        read_settings({"DATABASE_URL": url})
