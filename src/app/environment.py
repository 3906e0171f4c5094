"""The environment as a whole: no name that means nothing, and in production nothing that is only good for trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec, TypeVar

import msgspec

from app.settings import GROUP, NEEDS_DATABASE, Settings
from app.weak_secrets import is_example_password, is_weak_key, password_of
from plugins.contract.discovery import Discovered, discover, toggle_of
from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup, settings_of
from plugins.contract.unknown import unknown_settings

P = ParamSpec("P")
T = TypeVar("T")

LATER = ("DEFAULT_PROVIDER",)
"""Promised names that this release does not read: set, they are warned about."""

LATER_PREFIX = "OTEL_"
"""OpenTelemetry's standard names: promised as well."""

_TO_BE_GENERATED = {"ADMIN_KEY": "to-be-generated-at-the-first-start"}
"""In development it may be missing: it stands in for the one that will be made."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that WattOS would start with."""

    settings: Settings
    discovered: Discovered
    values: tuple[tuple[SettingsGroup, msgspec.Struct], ...]
    """All settings that this process reads: the app's and those of the plugins that are on."""
    warnings: tuple[str, ...]


def read_environment(env: Mapping[str, str]) -> Environment:
    """Starts and writes nothing. Raises: SettingsError that names all that is wrong, so that it is mended in one go."""
    problems: list[str] = []
    settings = _tried(problems, load_settings, Settings, env)
    discovered = _tried(problems, discover, env)
    values: list[tuple[SettingsGroup, msgspec.Struct]] = [] if settings is None else [(GROUP, settings)]
    if discovered is not None:
        given = {**_TO_BE_GENERATED, **{name: value for name, value in env.items() if value}}
        for group in discovered.settings:
            loaded = _tried(problems, load_settings, group.kind, given, group.prefix)
            values += [] if loaded is None else [(group, loaded)]
        problems += _unknown(env, discovered)
        if settings is not None and settings.is_production:
            problems += _only_for_trying(env, settings, discovered)
    if problems or settings is None or discovered is None:
        raise SettingsError("; ".join(problems))
    return Environment(
        settings=settings, discovered=discovered, values=tuple(values), warnings=tuple(_not_read_yet(env))
    )


def _tried(problems: list[str], read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    try:
        return read(*args, **kwargs)
    except SettingsError as exc:
        problems.append(exc.message)
        return None


def _unknown(env: Mapping[str, str], discovered: Discovered) -> list[str]:
    of_off = discovered.tolerated
    known = {setting.variable for setting in settings_of((GROUP, *discovered.settings))}
    known |= {*discovered.toggles, *LATER, *(name for name in of_off if not name.endswith("_"))}
    return unknown_settings(env, known, [start for start in of_off if start.endswith("_")])


def _only_for_trying(env: Mapping[str, str], settings: Settings, discovered: Discovered) -> Iterator[str]:
    """What APP_ENV=production refuses."""
    is_secured = any(state.name == "security" and state.enabled for state in discovered.states)
    if settings.database_url is None:
        yield NEEDS_DATABASE
    if not is_secured and not settings.app_allow_anonymous:
        yield (
            f"{toggle_of('security')} is off in production: everyone would be the default tenant;"
            " set APP_ALLOW_ANONYMOUS=true if that is meant"
        )
    key = env.get("ADMIN_KEY", "")
    if not key:
        yield "ADMIN_KEY is not set, and production needs it: make one with `openssl rand -hex 32`"
    elif is_weak_key(key):
        yield "ADMIN_KEY=… is a weak or an example key: make one with `openssl rand -hex 32`"
    if settings.jwt_secret is not None and is_weak_key(settings.jwt_secret):
        yield "JWT_SECRET=… is a weak or an example key: make one with `openssl rand -hex 32`"
    for name, password in (
        ("DATABASE_URL", password_of(settings.database_url)),
        ("DATABASE_MIGRATION_URL", password_of(settings.database_migration_url)),
        ("PGPASSWORD", env.get("PGPASSWORD", "")),
        ("VALKEY_URL", password_of(env.get("VALKEY_URL"))),
    ):
        if is_example_password(password):
            yield f"{name}=… has a password that examples use: give the database another one"


def _not_read_yet(env: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(env):
        if env[name] and (name in LATER or name.startswith(LATER_PREFIX)):
            yield f"{name} is set, and this release does not read it"
