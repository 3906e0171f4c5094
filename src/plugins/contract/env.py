"""From environment variables to typed, frozen settings: the only parser. It never reads `os.environ` itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from plugins.contract.errors import SettingsError
from plugins.contract.settings import Setting, SettingsGroup, settings_of

S = TypeVar("S", bound=msgspec.Struct)

_BOOLS = {"true": True, "1": True, "false": False, "0": False}

_MAX_QUOTED_CHARACTERS = 100
"""A message is one line, whatever was pasted into a variable."""


def flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    """A toggle: true, false, 1 or 0 in any case. Raises: SettingsError for anything else, the empty string included."""
    raw = env.get(name)
    if raw is None:
        return default
    try:
        return _BOOLS[raw.strip().lower()]
    except KeyError:
        raise SettingsError(f"{name}={raw!r} is not a switch: use true, false, 1 or 0") from None


def load_settings(kind: type[S], env: Mapping[str, str], prefix: str = "") -> S:
    """Read each field `name` of the struct from `PREFIX + NAME`. Empty values count as unset; words in any case.

    Raises: SettingsError that names each wrong variable, its value and what is allowed.
    """
    values: dict[str, object] = {}
    problems: list[str] = []
    for setting in settings_of([SettingsGroup("", kind, prefix)]):
        raw = env.get(setting.variable)
        try:
            if raw is not None and raw != "":
                values[setting.field] = _value(setting, raw)
            elif setting.default is msgspec.NODEFAULT:
                problems.append(f"{setting.variable} is not set, and is needed: {setting.allowed}")
        except (msgspec.ValidationError, SettingsError):
            problems.append(
                f"{setting.variable}={_quoted(setting, raw or '')} cannot be used: it takes {setting.allowed}"
            )
    if problems:
        raise SettingsError("; ".join(problems))
    return kind(**values)


def _value(setting: Setting, raw: str) -> object:
    if setting.is_switch:
        return flag({setting.variable: raw}, setting.variable, False)
    if setting.choices:
        raw = {choice.lower(): choice for choice in setting.choices}.get(raw.strip().lower(), raw)
    return msgspec.convert(raw, setting.given_kind, strict=False)


def _quoted(setting: Setting, raw: str) -> str:
    shown = setting.shown(raw)
    if setting.is_secret:
        return shown
    return repr(shown if len(shown) <= _MAX_QUOTED_CHARACTERS else f"{shown[:_MAX_QUOTED_CHARACTERS]}…")
