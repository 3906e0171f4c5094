"""Keys that stand twice, however they are written; and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.duplicates import MAX_EXACT_BYTES, duplicate_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_a_value_without_one_has_none(value: object, ascii_only: bool, indent: int | None) -> None:
    """Any JSON, escaped or not, with space or without."""
    try:
        body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    try:
        assert duplicate_key(body) is None
    except ValueError:  # msgspec's word for an integer that is too long, or a lone surrogate
        assert "\\u" in body.decode() or any(c.isdigit() for c in body.decode())


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), JSON, min_size=1, max_size=3), st.booleans())
def test_one_more_of_any_key_is_found(fields: dict[str, object], ascii_only: bool) -> None:
    """At the top and inside, escaped in the one place and not in the other."""
    key = next(iter(fields))
    try:
        rest = json.dumps(fields)[1:-1]
        again = json.dumps(key, ensure_ascii=ascii_only)
        body = f'{{{rest}, {again} : ":"}}'.encode()
    except UnicodeEncodeError:
        return
    try:
        assert duplicate_key(body) == key
        assert duplicate_key(b'[{"x": ' + body + b"}]") == key
    except ValueError:
        assert "\\u" in body.decode() or any(c.isdigit() for c in body.decode())


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"a":1,"a":"\\u003a"}', "a"),
        (b'{"a":1,"a":"\\u003A"}', "a"),
        (b'{"a\\\\":1,"a\\\\" :2}', "a\\"),
        (b'{"\\u0061":1,"a":2}', "a"),
        (b'{"":1,"":2}', ""),
        (b'{"a":"\\\\u003a"}', None),
        (b'{"a":' + b"9" * 50 + b"}", None),
        (b'{"a":' + b"9" * 50 + b',"a":1}', "a"),
    ],
)
def test_what_could_hide_one_does_not(body: bytes, key: str | None) -> None:
    """Escaped colons, escaped keys, integers that cannot be written again."""
    assert duplicate_key(body) == key


def test_a_large_suspect_is_refused_without_its_key() -> None:
    """To say which key it is would hold the loop."""
    body = b'{"x":"' + b"y" * MAX_EXACT_BYTES + b'","a":1,"a":2}'
    assert duplicate_key(body) == ""
