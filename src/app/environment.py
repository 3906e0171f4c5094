"""The environment as a whole: no name that means nothing, and in production nothing that is only good for trying."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from app.settings import GROUP, Settings
from plugins.contract.discovery import Discovered, toggle_of
from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup, settings_of
from plugins.contract.unknown import unknown_settings

LATER = ("VALKEY_URL", "DEFAULT_PROVIDER", "LLM_TRANSPORT", "JWT_SECRET", "OIDC_ISSUER", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Promised names that this release does not read: set, they are warned about."""

EXAMPLE_PASSWORDS = frozenset(
    ("postgres", "password", "passwort", "changeme", "change-me", "secret", "admin", "wattos", "example", "replace-me")
)
"""Passwords that come with examples, as in `postgres:postgres@`."""

MIN_DIFFERENT_CHARACTERS = 10
"""32 random hex digits hold 14 of the 16 on average, and hardly ever fewer than 10; a typed-in run holds one or two."""


def groups_of(discovered: Discovered) -> tuple[SettingsGroup, ...]:
    """All settings that this process reads: the app's and those of the plugins that are on."""
    return (GROUP, *discovered.settings)


def check_environment(env: Mapping[str, str], settings: Settings, discovered: Discovered) -> list[str]:
    """Returns: warnings. Raises: SettingsError that names each variable that is wrong, and why."""
    known = {setting.variable for setting in settings_of(groups_of(discovered))}
    known |= {*discovered.toggles, "ADMIN_KEY", *LATER}
    problems = unknown_settings(env, known, discovered.tolerated)
    if settings.is_production:
        problems += _only_for_trying(env, settings, discovered)
    if problems:
        raise SettingsError("; ".join(problems))
    return [f"{name} is set, and this release does not read it" for name in LATER if env.get(name)]


def _only_for_trying(env: Mapping[str, str], settings: Settings, discovered: Discovered) -> list[str]:
    """What APP_ENV=production refuses."""
    problems: list[str] = []
    is_secured = any(state.name == "security" and state.enabled for state in discovered.states)
    if not is_secured and not settings.app_allow_anonymous:
        problems.append(
            f"{toggle_of('security')} is off in production: everyone would be the default tenant;"
            " set APP_ALLOW_ANONYMOUS=true if that is meant"
        )
    key = env.get("ADMIN_KEY", "")
    if not key:
        problems.append("ADMIN_KEY is not set, and production needs it: make one with `openssl rand -hex 32`")
    elif len(set(key)) < MIN_DIFFERENT_CHARACTERS or any(word in key.lower() for word in _EXAMPLE_WORDS):
        problems.append("ADMIN_KEY=… is a weak or an example key: make one with `openssl rand -hex 32`")
    for name, url in (
        ("DATABASE_URL", settings.database_url),
        ("DATABASE_MIGRATION_URL", settings.database_migration_url),
    ):
        if _password(url) in EXAMPLE_PASSWORDS:
            problems.append(f"{name}=… has a password that examples use: give the database another one")
    return problems


_EXAMPLE_WORDS = tuple(word for word in EXAMPLE_PASSWORDS if len(word) >= 7)
"""Shorter words can stand in a random key by chance; of these, one in 10^9 keys holds one."""


def _password(url: str | None) -> str:
    try:
        return (urlsplit(url or "").password or "").lower()
    except ValueError:
        return ""
