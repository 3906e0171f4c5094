"""Settings of the security plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup

_MIN_ADMIN_KEY_CHARACTERS = 32


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`PLUGINS_SECURITY_…`."""

    key_cache_max_age_s: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How old an answer of the key look-up may be: the longest that a revoked key still works. The promise is 1 s."""

    key_cache_max_entries: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """Known keys kept in memory, least recently used go first. About 0.5 KB each, so 5 MB."""

    key_lookup_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """How long the database may take to say whose key it is, before the request is refused with 503."""


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`ADMIN_KEY`, without a prefix: the app hands it out too. Never shown, not even by `repr`."""

    admin_key: Annotated[str, Meta(min_length=_MIN_ADMIN_KEY_CHARACTERS)]
    """The platform administrator's bearer token: at least 32 visible ASCII characters, as a header can carry them."""

    def __post_init__(self) -> None:
        if not (self.admin_key.isascii() and self.admin_key.isprintable() and " " not in self.admin_key):
            raise SettingsError("ADMIN_KEY=… cannot be used: only visible ASCII characters can be sent in a header")

    def __repr__(self) -> str:
        return "AdminSettings(admin_key=…)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("admin_key", "…")]


SETTINGS = (SettingsGroup("security", SecuritySettings, "PLUGINS_SECURITY_"), SettingsGroup("security", AdminSettings))


def load(env: Mapping[str, str]) -> tuple[SecuritySettings, AdminSettings]:
    """Raises: SettingsError."""
    if not env.get("ADMIN_KEY"):
        raise SettingsError(
            f"ADMIN_KEY is not set, and the security plugin needs it: at least {_MIN_ADMIN_KEY_CHARACTERS} "
            "characters, as from `openssl rand -hex 32`"
        )
    return load_settings(SecuritySettings, env, prefix="PLUGINS_SECURITY_"), load_settings(AdminSettings, env)
