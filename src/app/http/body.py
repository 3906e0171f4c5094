"""Request bodies: bytes → struct, decoded once, with errors that name the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from app.errors import InvalidRequest

T = TypeVar("T")

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_body(body: bytes, kind: type[T]) -> T:
    """Raises: InvalidRequest with code `invalid_json` or, naming the field in `param`, `invalid_request`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise _invalid(exc) from None


def decode_object(body: bytes) -> dict[str, msgspec.Raw]:
    """The top level of a JSON object, its values left as they came: what is passed through is never re-read.

    Raises: InvalidRequest.
    """
    try:
        return _object_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise _invalid(exc) from None


def _invalid(exc: Exception) -> InvalidRequest:
    if isinstance(exc, msgspec.ValidationError):
        text = str(exc)
        match = _PATH.search(text)
        return InvalidRequest(_PATH.sub("", text), param=match["path"] if match else None)
    if isinstance(exc, RecursionError):
        return InvalidRequest("the JSON is nested too deeply", code="invalid_json")
    return InvalidRequest("the body is not valid JSON in UTF-8", code="invalid_json")
