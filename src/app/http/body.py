"""Request bodies: bytes → struct, decoded once, with errors that name the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from app.errors import InvalidRequest
from app.http.duplicates import duplicate_key

T = TypeVar("T")

MAX_KEY_CHARS = 100
"""Of a key of the client's, in our answer."""

_NAMED = re.compile(r"(?:unknown|missing required) field `(?P<name>[^`]*)`")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL, and not an escaped backslash before `u0000`."""
_PATH = re.compile(r" - at (?P<key>`key` in )?`\$\.?(?P<path>[^`]*)`")
"""Where msgspec says that it is; a key of a mapping is told by the mapping's place."""
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_body(body: bytes, kind: type[T]) -> T:
    """For what will be stored. Raises: InvalidRequest with code `invalid_json` or, naming the field in `param`,
    `invalid_request` or `duplicate_key`.
    """
    if _NUL.search(body):
        raise InvalidRequest("a text holds the NUL character, which cannot be stored", code="invalid_character")
    try:
        body.decode()  # fields that are not known are skipped unread, and must be text nevertheless
        decoded = msgspec.json.decode(body, type=kind)
        _refuse_duplicates(body)
        return decoded
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise _invalid(exc) from None


def decode_object(body: bytes) -> dict[str, msgspec.Raw]:
    """The top level of a JSON object, its values left as they came: what is passed through is never re-read.

    Raises: InvalidRequest.
    """
    try:
        body.decode()  # raw values are not looked into, and must be text nevertheless: 1 ms for 10 MB of ASCII
        fields = _object_decoder.decode(body)
        _refuse_duplicates(body)
        return fields
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise _invalid(exc) from None


def read_field(fields: Mapping[str, msgspec.Raw], name: str, kind: type[T]) -> T | None:
    """One field of `decode_object`'s; None where it is absent or null. Raises: InvalidRequest naming it."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return cast("T | None", _decoder_of(kind).decode(raw))  # type: ignore[arg-type]  # mypy takes no class for hashable
    except (msgspec.ValidationError, RecursionError) as exc:
        raise InvalidRequest(f"{name}: {exc}", param=name) from None


@lru_cache(maxsize=256)  # of kinds that the code names: making one takes 3 to 7 µs (measured)
def _decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind | None)


def _refuse_duplicates(body: bytes) -> None:
    key = duplicate_key(body)
    if key is not None:
        named = f"the key {key[:MAX_KEY_CHARS]!r}" if key else "a key"
        raise InvalidRequest(
            f"{named} stands twice in one object", param=key[:MAX_KEY_CHARS] or None, code="duplicate_key"
        )


def _invalid(exc: Exception) -> InvalidRequest:
    if isinstance(exc, msgspec.ValidationError):
        text = str(exc)
        path, field = _PATH.search(text), _NAMED.search(text)
        named = ".".join(part for part in (path and path["path"], field and field["name"]) if part)
        return InvalidRequest(_PATH.sub(" as a key" if path and path["key"] else "", text), param=named or None)
    if isinstance(exc, RecursionError):
        return InvalidRequest("the JSON is nested too deeply", code="invalid_json")
    return InvalidRequest("the body is not valid JSON in UTF-8", code="invalid_json")
