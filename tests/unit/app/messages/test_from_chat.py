"""Chat completions as messages."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.llm.model import Usage
from app.messages.from_chat import INVALID_JSON, message_of
from app.messages.to_chat import chat_fields
from unit.app.messages.support import SHOWN_USAGE, USAGE, call, completion


def message(body: bytes) -> dict[str, Any]:
    return message_of(body, "chat", USAGE)


def test_text() -> None:
    """Everything that Anthropic's SDK reads of a message."""
    made = message(completion(content="Hello"))
    assert made.pop("id").startswith("msg_")
    assert made == {
        "type": "message",
        "role": "assistant",
        "model": "chat",
        "content": [{"type": "text", "text": "Hello", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": SHOWN_USAGE,
    }


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("eos", "end_turn"),
        (None, "end_turn"),
    ],
)
def test_stop_reasons(finish: str | None, reason: str) -> None:
    """By the wire's own words; what is not known is an ordinary end."""
    assert message(completion(finish, content="x"))["stop_reason"] == reason


def test_tools_called_with_the_wrong_finish() -> None:
    """Some vendors say `stop`: agents would not run the tool."""
    assert message(completion("stop", tool_calls=[call("t", "f", "{}")]))["stop_reason"] == "tool_use"
    assert message(completion("length", tool_calls=[call("t", "f", "{")]))["stop_reason"] == "max_tokens"


def test_which_stop_sequence() -> None:
    """vLLM says it."""
    made = message(completion(content="x", choice={"stop_reason": "\n"}))
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "\n")
    assert message(completion(content="x", choice={"stop_reason": 151645}))["stop_reason"] == "end_turn"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_then_text_then_tools(field: str) -> None:
    """In the order in which models do it."""
    said = {field: "Hm.", "content": "I look.", "tool_calls": [call("t1", "weather", '{"town": "Köln"}')]}
    made = message(completion("tool_calls", **said))
    assert made["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "I look.", "citations": None},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Köln"}},
    ]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("value", [None, "", [], {"effort": "low"}, 7])
def test_no_thinking(field: str, value: object) -> None:
    """Whatever stands where a text was expected."""
    assert [block["type"] for block in message(completion(content="x", **{field: value}))["content"]] == ["text"]


def test_refusal() -> None:
    """What the model said instead."""
    made = message(completion(refusal="I cannot."))
    assert (made["content"][0]["text"], made["stop_reason"]) == ("I cannot.", "refusal")


def test_text_in_parts() -> None:
    """As some vendors answer."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "x"}, 1]
    assert message(completion(content=parts))["content"][0]["text"] == "ab"


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", '"x"', "NaN", "{" * 5000])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """Under the key that Anthropic names for them: a model is cut off in the middle of a call."""
    (block,) = message(completion("length", tool_calls=[call("t", "f", arguments)]))["content"]
    assert block["input"] == {INVALID_JSON: arguments}


def test_no_arguments() -> None:
    """An empty object."""
    (block,) = message(completion(tool_calls=[call("t", "f", "")]))["content"]
    assert block["input"] == {}


@pytest.mark.parametrize("given_id", ["", "call:1", "a b", "functions.weather:0"])
def test_ids_that_anthropic_does_not_take(given_id: str) -> None:
    """Another one instead: it comes back with the result."""
    (block,) = message(completion(tool_calls=[call(given_id, "f", "{}")]))["content"]
    assert block["id"].startswith("toolu_")


def test_nothing_said() -> None:
    """A message without blocks, and no failure."""
    assert message(completion(content=""))["content"] == []
    assert message(b'{"choices": []}')["content"] == []


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": 1}', b'{"choices": [{"message": []}]}'])
def test_no_completion(body: bytes) -> None:
    """Told apart from an empty one."""
    with pytest.raises(msgspec.DecodeError):
        message(body)


def test_usage_of_a_vendor_that_counts_its_cache_twice() -> None:
    """Never below zero."""
    usage = Usage(input_tokens=5, output_tokens=1, cached_tokens=5, cache_write_tokens=5)
    assert message_of(completion(content="x"), "chat", usage)["usage"]["input_tokens"] == 0


words = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
calls = st.lists(
    st.tuples(st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True), words, st.dictionaries(words, values)),
    max_size=4,
)


@given(text=words, thought=words, tool_calls=calls)
def test_there_and_back(text: str, thought: str, tool_calls: list[tuple[str, str, dict[str, Any]]]) -> None:
    """What a model said comes back to it in the next request as it said it, without its thoughts."""
    said = [call(call_id, name, json.dumps(arguments)) for call_id, name, arguments in tool_calls]
    made = message(completion(content=text, reasoning_content=thought, tool_calls=said or None))
    messages = [{"role": "assistant", "content": made["content"]}]
    fields = {"messages": msgspec.Raw(msgspec.json.encode(messages))}
    back = json.loads(bytes(chat_fields(fields)["messages"]))
    if not (text or said):
        assert back == []
        return
    assert (back[0]["content"] or "") == text
    returned = [
        (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
        for one in back[0].get("tool_calls", [])
    ]
    assert returned == tool_calls
