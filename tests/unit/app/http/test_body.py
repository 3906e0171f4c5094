"""Bodies from anybody: decoded, or refused with the field's name."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.http.body import decode_body, decode_object

DEEP = b"[" * 20_000 + b"]" * 20_000


class Part(msgspec.Struct, forbid_unknown_fields=True):
    size: int


class Tolerant(msgspec.Struct):
    name: str = ""


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    part: Part | None = None
    parts: list[Part] = []
    labels: dict[Annotated[str, msgspec.Meta(max_length=3)], str] = {}


def refusal(body: bytes, kind: type = Strict) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        decode_body(body, kind)
    return refused.value


@given(text=st.text() | st.text(alphabet="\\u0\0x", max_size=12), is_ascii=st.booleans())
def test_text_comes_through_as_it_was_or_holds_nul(text: str, is_ascii: bool) -> None:
    """PostgreSQL stores every character but NUL. Backslashes before `u0000` do not confuse the two."""
    body = json.dumps({"name": text}, ensure_ascii=is_ascii).encode()
    if "\0" in text:
        assert refusal(body, Tolerant).reason == "invalid_character"
    else:
        assert decode_body(body, Tolerant).name == text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"name": 5}', "name"),
        (b"{}", "name"),
        (b'{"name": "x", "colour": 1}', "colour"),
        (b'{"name": "x", "part": {}}', "part.size"),
        (b'{"name": "x", "part": {"size": "x"}}', "part.size"),
        (b'{"name": "x", "part": {"size": 1, "colour": 1}}', "part.colour"),
        (b'{"name": "x", "parts": [{"size": 1}, {"size": null}]}', "parts[1].size"),
        (b'{"name": "x", "labels": {"long": ""}}', "labels"),
        (b"[]", None),
        (b"null", None),
    ],
)
def test_field_that_is_wrong_missing_or_unknown_is_named(body: bytes, param: str | None) -> None:
    """By its whole path, in `param` alone: the message has no path of the decoder's."""
    refused = refusal(body)
    assert (refused.reason, refused.param) == ("invalid_request", param)
    assert "$" not in refused.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name": "x"} {}',
        b"{'name': 'x'}",
        b'{"name": NaN}',
        b'{"name": "\x00"}',
        b'{"name": "\xff"}',
        b'{"unread": "\xff"}',
        b'{"name": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        '{"name": "x"}'.encode("utf-16"),
        DEEP,
        b'{"name": ' + DEEP + b"}",
        b'{"unread": ' + DEEP + b"}",
    ],
)
def test_what_is_no_json_in_utf8_is_said_to_be_none(body: bytes) -> None:
    """Cut off, of another encoding, half a surrogate pair, too deep, also in fields that nobody reads."""
    refused = refusal(body, Tolerant)
    assert refused.reason in {"invalid_json", "invalid_request"}
    assert refused.param in {None, "name"}


def test_object_keeps_its_values_as_they_came() -> None:
    """What is passed through is never read again: spaces, long numbers and the order of keys stay."""
    values = decode_object(b'{"b": [1,  2], "a": 1.0000000000000000000001}')
    assert {name: bytes(value) for name, value in values.items()} == {
        "b": b"[1,  2]",
        "a": b"1.0000000000000000000001",
    }


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"a": "\xff"}', DEEP])
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Also bytes that are not text, which would otherwise be passed on."""
    with pytest.raises(InvalidRequest):
        decode_object(body)
