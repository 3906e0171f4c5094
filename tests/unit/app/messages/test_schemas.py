"""Requests of Anthropic's wire, read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.messages.counting import PER_PICTURE_TOKENS, input_tokens_of
from app.messages.schemas import read_messages_request

GOOD: dict[str, Any] = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "ping"}]}


def body(**fields: object) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def test_what_is_passed_on() -> None:
    """All of it, unread and unknown fields too, but our own wishes."""
    request = read_messages_request(body(top_k=4, brand_new={"a": 1}, stream=True, fallbacks=["spare"]))
    assert (request.model, request.stream, request.wishes.fallbacks) == ("chat", True, ("spare",))
    assert request.fields.keys() == {*GOOD, "top_k", "brand_new", "stream"}


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens"])
@pytest.mark.parametrize("value", [None, "absent"])
def test_what_is_missing(name: str, value: str | None) -> None:
    """By name."""
    given = {**GOOD, name: None}
    if value == "absent":
        del given[name]
    with pytest.raises(InvalidRequest) as caught:
        read_messages_request(json.dumps(given).encode())
    assert (caught.value.param, caught.value.reason) == (name, "missing_field")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 1),
        ("max_tokens", "9"),
        ("max_tokens", -1),
        ("messages", "ping"),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": [{"text": "x"}]}]),
        ("system", 1),
        ("tools", {}),
        ("tools", [{"name": 1}]),
        ("tool_choice", "auto"),
        ("tool_choice", {"type": "some"}),
        ("stop_sequences", "\n"),
        ("temperature", "hot"),
        ("top_p", "x"),
        ("top_k", 0.5),
        ("stream", "yes"),
        ("metadata", "u"),
        ("thinking", True),
        ("thinking", {"type": "enabled", "budget_tokens": -1}),
        ("fallbacks", "spare"),
    ],
)
def test_wrong_types(name: str, value: object) -> None:
    """By the field's name: no target should be blamed for it."""
    with pytest.raises(InvalidRequest) as caught:
        read_messages_request(body(**{name: value}))
    assert caught.value.param == name


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"model":"a","model":"b"}', b'{"model":"\xff"}'])
def test_no_object(data: bytes) -> None:
    """Refused before a field is looked at."""
    with pytest.raises(InvalidRequest):
        read_messages_request(data)


def test_null_is_absent() -> None:
    """As in the SDKs' own requests."""
    names = ("system", "tools", "tool_choice", "stop_sequences", "temperature", "thinking", "metadata", "stream")
    assert not read_messages_request(body(**dict.fromkeys(names))).stream


def test_a_count_needs_no_bound() -> None:
    """And never streams."""
    given = {name: value for name, value in GOOD.items() if name != "max_tokens"}
    request = read_messages_request(json.dumps({**given, "stream": True}).encode(), is_count=True)
    assert not request.stream


def test_beta_features() -> None:
    """From the headers, of which there may be several; what is no name is left out."""
    headers = [(b"anthropic-beta", b"a-2025-01-01, b"), (b"accept", b"x"), (b"anthropic-beta", b"c\xfc,,d e,f")]
    request = read_messages_request(body(), headers)
    assert json.loads(bytes(request.fields["anthropic_beta"])) == ["a-2025-01-01", "b", "f"]


async def counted(**fields: object) -> int:
    return await input_tokens_of(read_messages_request(body(**fields), is_count=True).fields)


async def test_estimated_count() -> None:
    """Whatever the model reads makes it grow."""
    plain = await counted()
    assert plain > 0
    blocks = [
        {"type": "text", "text": "The quick brown fox."},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "The quick brown fox."}]},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"fox": "The quick brown fox."}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "The quick brown fox."}},
    ]
    for block in blocks:
        assert await counted(messages=[{"role": "user", "content": [block]}]) > plain
    assert await counted(system="Be brief.") > plain
    assert await counted(tools=[{"name": "f", "input_schema": {"type": "object"}}]) > plain


async def test_estimated_count_of_a_picture() -> None:
    """Its bytes are no words."""
    source = {"type": "base64", "media_type": "image/png", "data": "iVBO" * 10_000}
    n_tokens = await counted(messages=[{"role": "user", "content": [{"type": "image", "source": source}]}])
    assert PER_PICTURE_TOKENS < n_tokens < PER_PICTURE_TOKENS + 20
