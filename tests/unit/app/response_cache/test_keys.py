"""When two requests are the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.llm.caching import NEVER, NO_WISH, CachePolicy, CacheWish, agreed
from app.llm.model import Plan, Target
from app.response_cache.keys import AS_SENT_BYTES, IRRELEVANT, MAX_REQUEST_BYTES, canonical, fingerprints

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aä\\"\n☃'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abü", max_size=3), inner, max_size=3),
    max_leaves=10,
)


def fields(body: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def turned(value: Any) -> Any:
    """The same, every object's keys the other way round."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text("abcß", min_size=1, max_size=3), JSON))
def test_the_same_json_has_one_form(body: dict[str, Any]) -> None:
    """However it is ordered, spaced and escaped; and that form is the same JSON, but for nulls at its top."""
    plain = canonical(fields(json.dumps(body).encode()))
    assert plain == canonical(fields(json.dumps(turned(body), indent=2, ensure_ascii=False).encode()))
    assert plain is not None
    assert json.loads(plain[0]) == {name: value for name, value in body.items() if value is not None}


@given(JSON, JSON)
def test_different_json_has_different_forms(one: Any, other: Any) -> None:
    forms = [canonical({"a": msgspec.Raw(json.dumps(value).encode())}) for value in (one, other)]
    assert (forms[0] == forms[1]) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("0.5", "0.50"), ("9007199254740993", "9007199254740992.0")])
def test_numbers_stay_as_they_are_written(one: str, other: str) -> None:
    """Who reads them otherwise than we do must not be given another's answer."""
    assert canonical({"a": msgspec.Raw(one.encode())}) != canonical({"a": msgspec.Raw(other.encode())})
    assert canonical({"a": msgspec.Raw(b"123456789012345678901234567890")}) == (
        b'{"a":123456789012345678901234567890}',
    )


def test_a_number_that_cannot_be_read_is_no_key() -> None:
    """The target may say what is wrong with it."""
    assert canonical({"a": msgspec.Raw(b'{"b":1e99999999999999999999}')}) is None


def test_what_does_not_change_the_answer_is_left_out() -> None:
    assert canonical({name: msgspec.Raw(b'"x"') for name in IRRELEVANT}) == (b"{}",)


def test_what_is_too_long_or_unreadable_has_no_form() -> None:
    """Then it is just asked."""
    assert canonical({"a": msgspec.Raw(b'"' + b"x" * MAX_REQUEST_BYTES + b'"')}) is None
    assert canonical({"a": msgspec.Raw(b'"\\ud800"')}) is None
    assert canonical({"a": msgspec.Raw(b"[" * 4_000 + b"]" * 4_000)}) is None


def test_a_long_field_counts_as_it_was_sent() -> None:
    """Under its name, in whatever order; and never as another request's short ones."""
    words = ["word"] * AS_SENT_BYTES
    tight = msgspec.Raw(json.dumps(words, separators=(",", ":")).encode())
    spaced = msgspec.Raw(json.dumps(words).encode())
    one, short = {"a": tight, "b": spaced}, msgspec.Raw(b' {"c" : 1}')
    parts = canonical({**one, "short": short})
    assert parts == (b'{"short":{"c":1}}', "a", bytes(tight), "b", bytes(spaced))
    assert canonical({"short": msgspec.Raw(b'{"c":1}'), "b": spaced, "a": tight}) == parts
    different = [{"a": tight}, {"b": tight}, {"a": spaced}, {"a": spaced, "b": tight}, one, {"a": short}]
    assert len({canonical(fields) for fields in different}) == len(different)


@pytest.mark.parametrize("more", [0, 1])
def test_which_of_the_two_a_field_is_its_length_says(more: int) -> None:
    text = msgspec.Raw(b'"' + b"x" * (AS_SENT_BYTES - 2 + more) + b'"')
    parts = canonical({"a": text})
    assert parts is not None
    assert parts[1:] == (("a", bytes(text)) if more else ())


def target(name: str, configured: str = "") -> Target:
    return Target(id=name, alias="a", provider_model=f"openai/{name}", transport="direct", configured=configured)


def test_targets_count_in_any_order_with_all_that_may_stand_in() -> None:
    one, two, other = target("one"), target("two"), target("one", configured="otherwise")
    assert fingerprints(Plan(targets=(one, two))) == fingerprints(Plan(targets=(two, one)))
    assert fingerprints(Plan(targets=(one,))) != fingerprints(Plan(targets=(one, two)))
    assert fingerprints(Plan(targets=(one,), on_context=(two,))) == fingerprints(Plan(targets=(one, two)))
    assert fingerprints(Plan(targets=(one,))) != fingerprints(Plan(targets=(other,)))


ON = CachePolicy(mode="readwrite", ttl_s=300, scope="tenant")


@pytest.mark.parametrize(
    ("request_", "alias", "expected"),
    [
        (NO_WISH, None, None),
        (CacheWish(mode="readwrite"), None, ON),
        (NO_WISH, CacheWish(mode="readwrite"), ON),
        (NO_WISH, CacheWish(ttl_s=5), None),
        (NEVER, CacheWish(mode="readwrite"), None),
        (CacheWish(mode="read"), NEVER, None),
        (CacheWish(ttl_s=7), CacheWish(mode="readwrite", ttl_s=5, scope="user"), replace(ON, ttl_s=7, scope="user")),
        (CacheWish(mode="write", scope="tenant"), CacheWish(mode="read", scope="user"), replace(ON, mode="write")),
    ],
)
def test_a_requests_wish_goes_before_its_aliass_and_off_before_all(
    request_: CacheWish, alias: CacheWish | None, expected: CachePolicy | None
) -> None:
    assert agreed(request_, alias) == expected
