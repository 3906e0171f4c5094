"""From environment variables to typed, frozen settings: the only parser. It never reads `os.environ` itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar, get_args, get_origin

import msgspec

from plugins.contract.errors import SettingsError

S = TypeVar("S", bound=msgspec.Struct)

_BOOLS = {"true": True, "1": True, "false": False, "0": False}


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
    """Read each field `name` of the struct from `PREFIX + NAME`. Empty values count as unset.

    Raises: SettingsError naming variable, value and what is allowed.
    """
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        variable = f"{prefix}{field.name}".upper()
        raw = env.get(variable)
        if raw is None or raw == "":
            if field.required:
                raise SettingsError(f"{variable} is not set, and is needed: {_describe(field.type)}")
            continue
        if _accepts_bool(field.type):
            values[field.name] = flag(env, variable, False)
            continue
        try:
            values[field.name] = msgspec.convert(raw, field.type, strict=False)
        except msgspec.ValidationError as exc:
            shown = "…" if _is_secret(field.name) else repr(raw)
            raise SettingsError(f"{variable}={shown} cannot be used: {exc}") from None
    return kind(**values)


def _is_secret(name: str) -> bool:
    return any(word in name for word in ("key", "secret", "password", "url"))


def _accepts_bool(kind: object) -> bool:
    return kind is bool or (get_origin(kind) is Annotated and get_args(kind)[0] is bool)


def _describe(kind: object) -> str:
    return getattr(kind, "__name__", str(kind))
