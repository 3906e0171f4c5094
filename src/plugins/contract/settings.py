"""What can be set: every variable with its type, range, default and owner. All pages and checks follow from this."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from plugins.contract.redaction import MASK, is_secret_name

_UNITS = {"s": "s", "ms": "ms", "bytes": "bytes", "tokens": "tokens"}
_SECRET = re.compile(r"(^|_)(key|secret|password|token)$")
_CREDENTIALS = re.compile(r"((?:^|://)[^:@/?\s]*:)(?!//).*@", re.S)
"""`user:password@`. To the last @, so that a password with an @ or a / in it is masked whole."""
_PARAMETER = re.compile(r"([\w.-]+)=([^&;\s]+)")


class SettingsGroup(msgspec.Struct, frozen=True):
    """A struct of settings. Field `x` is read from the variable `PREFIX_X`."""

    owner: str
    """`app`, or the plugin's name."""
    kind: type[msgspec.Struct]
    prefix: str = ""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One variable."""

    variable: str
    owner: str
    field: str
    kind: Any
    default: Any
    """`msgspec.NODEFAULT` for one that must be given."""

    @property
    def is_secret(self) -> bool:
        return bool(_SECRET.search(self.field))

    @property
    def unit(self) -> str:
        """From `Meta(extra={"unit": …})`, else from the name's last word; empty for a number without one."""
        given = next((m.extra["unit"] for m in _metas(self.kind) if m.extra and "unit" in m.extra), None)
        return str(given or _UNITS.get(self.field.rpartition("_")[2], ""))

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may be given, if only certain ones may."""
        base = _base(self.kind)
        return tuple(map(str, get_args(base))) if get_origin(base) is Literal else ()

    @property
    def is_switch(self) -> bool:
        return _base(self.kind) is bool

    @property
    def given_kind(self) -> Any:
        """The type of a value that is given: without `| None`, with its bounds."""
        return _given(self.kind)

    @property
    def allowed(self) -> str:
        """What may be given, in words: `an integer from 1 to 1000 (ms)`."""
        words = allowed_words(self.kind)
        return f"{words}, in {self.unit}" if self.unit else words

    def shown(self, value: object) -> str:
        """`value` as it may be shown: secrets and passwords in addresses are masked, nothing given is empty."""
        if value is None or value is msgspec.NODEFAULT:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        text = str(value)
        return MASK if self.is_secret and text else _without_secrets(text)


def settings_of(groups: Iterable[SettingsGroup]) -> Iterator[Setting]:
    """In the order of the groups and their fields."""
    for group in groups:
        for field in msgspec.structs.fields(group.kind):
            yield Setting(
                variable=f"{group.prefix}{field.name}".upper(),
                owner=group.owner,
                field=field.name,
                kind=field.type,
                default=field.default,
            )


def allowed_words(kind: Any) -> str:
    """A type with its bounds, in words; a text's form is what `Meta(extra={"form": …})` says."""
    form = next((meta.extra["form"] for meta in _metas(kind) if meta.extra and "form" in meta.extra), None)
    if form is not None:
        return str(form)
    base = _base(kind)
    if base is bool:
        return "true, false, 1 or 0"
    if get_origin(base) is Literal:
        return "one of " + ", ".join(map(str, get_args(base)))
    noun, bounds = {int: "an integer", float: "a number"}.get(base, "a text"), _bounds(kind)
    return noun + (_length_words(bounds) if base is str else _range_words(bounds))


def _length_words(bounds: Mapping[str, Any]) -> str:
    low, high = bounds.get("min_length", 0), bounds.get("max_length")
    if high is None:
        return f" of at least {low} characters" if low > 1 else ""
    return f" of {low} to {high} characters"


def _range_words(bounds: Mapping[str, Any]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f" from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "of at least", "gt": "over", "le": "up to", "lt": "under"}
    said = ", ".join(f"{word} {bounds[name]}" for name, word in words.items() if name in bounds)
    return f" {said}" if said else ""


def _without_secrets(text: str) -> str:
    """Without the password of an address, as `user:password@` or as a parameter."""

    def masked(parameter: re.Match[str]) -> str:
        return f"{parameter[1]}={MASK}" if is_secret_name(parameter[1]) else parameter[0]

    return _PARAMETER.sub(masked, _CREDENTIALS.sub(rf"\1{MASK}@", text))


def _base(kind: Any) -> Any:
    """The type itself, without `Annotated` and without `| None`."""
    if get_origin(kind) is Annotated:
        return _base(get_args(kind)[0])
    given = _given(kind)
    return kind if given is kind else _base(given)


def _given(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return next(member for member in get_args(kind) if member is not NoneType)
    return kind


def _metas(kind: Any) -> list[msgspec.Meta]:
    found = [part for part in get_args(kind)[1:] if isinstance(part, msgspec.Meta)] if _is_annotated(kind) else []
    inner = [kind] if not _is_annotated(kind) else [get_args(kind)[0]]
    for part in inner:
        if get_origin(part) in (Union, UnionType):
            found += [meta for member in get_args(part) for meta in _metas(member)]
    return found


def _is_annotated(kind: Any) -> bool:
    return get_origin(kind) is Annotated


def _bounds(kind: Any) -> Mapping[str, Any]:
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    found: dict[str, Any] = {}
    for meta in _metas(kind):
        found |= {name: value for name in names if (value := getattr(meta, name)) is not None}
    return found
