"""From a request's bytes to what we act on; everything else stays as it came."""

from __future__ import annotations

import json

import pytest

from app.chat.parameters import TYPES
from app.chat.schemas import read_chat_request
from app.errors import InvalidRequest
from app.llm.transports.bridge import PARAMETERS


def body(**fields: object) -> bytes:
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


def test_unknown_fields_stay_and_extensions_go() -> None:
    """What we do not know belongs to the target, byte for byte; what is ours does not."""
    request = read_chat_request(
        b'{"model":"chat","messages":[{"role":"user","content":"Hi"}],"min_p": 1.50, "cache":{"mode":"read"}}'
    )
    assert bytes(request.fields["min_p"]) == b"1.50"
    assert "cache" not in request.fields
    assert request.cache.mode == "read"


def test_question_is_the_text_of_the_last_user_message() -> None:
    """Parts of text are joined; pictures and later assistant messages are not the question."""
    parts = [
        {"type": "text", "text": "Wie"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "oft?"},
    ]
    messages = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "a"},
    ]
    assert read_chat_request(body(messages=messages)).question == "Wie\noft?"


@pytest.mark.parametrize(
    ("fields", "needs_model"),
    [
        ({}, False),
        ({"tools": []}, False),
        ({"tools": None}, False),
        ({"tools": [{"type": "function"}]}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": None}, False),
    ],
)
def test_tools_and_formats_need_a_model(fields: dict[str, object], needs_model: bool) -> None:
    """Quotes alone would not do."""
    assert read_chat_request(body(**fields)).needs_model is needs_model


@pytest.mark.parametrize("name", sorted(TYPES))
def test_parameter_of_the_wrong_type_is_named(name: str) -> None:
    """A client's mistake never reaches a target, so it can never open its breaker. Null is always taken."""
    with pytest.raises(InvalidRequest) as refused:
        read_chat_request(body(**{name: [5]}))
    assert refused.value.param == name
    read_chat_request(body(**{name: None}))


def test_every_parameter_that_litellm_takes_by_name_is_checked() -> None:
    """The two lists cannot drift apart."""
    assert PARAMETERS - {"messages"} == TYPES.keys()


def test_too_many_stores_are_refused() -> None:
    """Each is a scan more in one statement."""
    with pytest.raises(InvalidRequest, match="at most"):
        read_chat_request(body(vector_store_ids=["vs_1"] * 11))
