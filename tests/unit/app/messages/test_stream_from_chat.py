"""Chunks of chat as Anthropic's events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamUnavailable
from app.messages.stream_from_chat import MAX_KEPT_CHARS, MessageEvents
from unit.app.messages.support import SHOWN_USAGE, USAGE, bodies, chunk, piece, read

ROLE = chunk(role="assistant", content="")


def told(*chunks: bytes) -> dict[str, Any]:
    made = MessageEvents("chat")
    return read(b"".join(map(made.feed, chunks)) + made.finish(USAGE))


def kinds(wire: bytes) -> list[str]:
    return [body["type"] for body in bodies(wire)]


def test_text() -> None:
    """Each chunk's events at once, in the wire's order."""
    made = MessageEvents("chat")
    assert kinds(made.feed(ROLE)) == ["message_start"]
    assert kinds(made.feed(chunk(content="Hel"))) == ["content_block_start", "content_block_delta"]
    assert kinds(made.feed(chunk(content="lo"))) == ["content_block_delta"]
    assert made.feed(chunk("stop")) == b""
    assert kinds(made.finish(USAGE)) == ["content_block_stop", "message_delta", "message_stop"]


def test_the_message() -> None:
    """The same as a whole answer's."""
    made = told(ROLE, chunk(content="Hel"), chunk(content="lo"), chunk("length"))
    assert made.pop("id").startswith("msg_")
    assert made == {
        "type": "message",
        "role": "assistant",
        "model": "chat",
        "content": [{"type": "text", "text": "Hello", "citations": None}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": SHOWN_USAGE,
    }


def test_a_count_in_the_beginning_is_none_yet() -> None:
    """The SDK replaces it by the end's."""
    (started,) = bodies(MessageEvents("chat").feed(ROLE))
    assert started["message"]["usage"]["input_tokens"] == 0


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_before_text(field: str) -> None:
    """A block of its own."""
    made = told(ROLE, chunk(**{field: "H"}), chunk(**{field: "m."}), chunk(content="Yes."), chunk("stop"))
    assert made["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Yes.", "citations": None},
    ]


def test_thinking_between_texts() -> None:
    """Blocks in the order in which they came."""
    made = told(chunk(content="a"), chunk(reasoning="b"), chunk(content="c"), chunk("stop"))
    assert [block["type"] for block in made["content"]] == ["text", "thinking", "text"]


def test_tools_one_after_the_other() -> None:
    """Each goes out as it comes: the second does not wait for the end."""
    made = MessageEvents("chat")
    wire = made.feed(chunk(content="I look."))
    wire += made.feed(piece(0, "", "weather", "t1")) + made.feed(piece(0, '{"town":')) + made.feed(piece(0, '"Köln"}'))
    second = made.feed(piece(1, "", "weather", "t2"))
    assert kinds(second) == ["content_block_stop", "content_block_start"]
    wire += second + made.feed(piece(1, '{"town":"Bonn"}')) + made.feed(chunk("tool_calls")) + made.finish(USAGE)
    message = read(wire)
    assert [block.get("input") for block in message["content"]] == [None, {"town": "Köln"}, {"town": "Bonn"}]
    assert [block.get("id") for block in message["content"]] == [None, "t1", "t2"]
    assert message["stop_reason"] == "tool_use"


def test_tools_mixed() -> None:
    """The first goes out as it comes, the others when it is whole."""
    message = told(
        piece(0, '{"a"', "f", "t0"),
        piece(1, '{"b"', "g", "t1"),
        piece(0, ":1}"),
        piece(2, "", "h", "t2"),
        piece(1, ":2}"),
        piece(0, ""),
        chunk("tool_calls"),
    )
    assert [(block["name"], block["input"]) for block in message["content"]] == [
        ("f", {"a": 1}),
        ("g", {"b": 2}),
        ("h", {}),
    ]


def test_text_behind_an_open_tool_call() -> None:
    """Held until the call is whole, and then a block of its own."""
    message = told(piece(0, '{"a"', "f", "t0"), chunk(content="x"), chunk(content="y"), piece(0, ":1}"), chunk("stop"))
    assert [block["type"] for block in message["content"]] == ["tool_use", "text"]
    assert message["content"][0]["input"] == {"a": 1}
    assert message["content"][1]["text"] == "xy"


def test_a_name_that_comes_late() -> None:
    """The block begins with it."""
    made = MessageEvents("chat")
    assert kinds(made.feed(piece(0, '{"a"', call_id="t0"))) == ["message_start"]
    assert kinds(made.feed(piece(0, ":1}", "f"))) == ["content_block_start", "content_block_delta"]


def test_a_whole_call_in_one_chunk() -> None:
    """As many servers stream them: all calls at once."""
    calls = [
        {"index": n, "id": f"t{n}", "type": "function", "function": {"name": "f", "arguments": f'{{"n": {n}}}'}}
        for n in range(3)
    ]
    message = told(ROLE, chunk("tool_calls", tool_calls=calls))
    assert [block["input"] for block in message["content"]] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_no_answer_at_all() -> None:
    """A message without blocks."""
    message = told(chunk("content_filter"))
    assert (message["content"], message["stop_reason"]) == ([], "refusal")
    assert told()["content"] == []


def test_other_choices_and_empty_chunks() -> None:
    """One message has one choice."""
    other = json.dumps({"choices": [{"index": 1, "delta": {"content": "no"}}]}).encode()
    message = told(chunk(content="yes"), other, b'{"choices": []}', b'{"usage": {}}', chunk("stop"))
    assert [block["text"] for block in message["content"]] == ["yes"]


@pytest.mark.parametrize("data", [b"<html>", b'{"choices": {}}', b'{"choices": [{"delta": 1}]}'])
def test_no_chunk(data: bytes) -> None:
    """Told by an error."""
    with pytest.raises(msgspec.DecodeError):
        MessageEvents("chat").feed(data)


def test_calls_without_end() -> None:
    """Memory is bounded."""
    made = MessageEvents("chat")
    made.feed(piece(0, "{", "f", "t0"))
    made.feed(piece(1, "x" * (MAX_KEPT_CHARS - 1)))
    with pytest.raises(UpstreamUnavailable):
        made.feed(piece(1, "x"))


arguments = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text('ab"{}\\ü', max_size=5), max_size=3)


@given(data=st.data(), given_arguments=st.lists(arguments, min_size=1, max_size=4))
def test_any_order_makes_whole_blocks(data: st.DataObject, given_arguments: list[dict[str, str]]) -> None:
    """However the pieces of calls, texts and thoughts are mixed: nothing is lost, nothing stands in another's block."""
    queues: list[list[bytes]] = []
    for index, given_ in enumerate(given_arguments):
        whole = json.dumps(given_)
        cut = data.draw(st.integers(0, len(whole)))
        queues.append(
            [piece(index, "", f"f{index}", f"t{index}"), piece(index, whole[:cut]), piece(index, whole[cut:])]
        )
    queues.append([chunk(content="x") for _ in range(data.draw(st.integers(0, 3)))])
    queues.append([chunk(reasoning="y") for _ in range(data.draw(st.integers(0, 2)))])
    mixed: list[bytes] = []
    while any(queues):
        chosen = data.draw(st.sampled_from([queue for queue in queues if queue]))
        mixed.append(chosen.pop(0))
    message = told(*mixed, chunk("tool_calls"))
    found = {block["name"]: block["input"] for block in message["content"] if block["type"] == "tool_use"}
    assert found == {f"f{index}": given_ for index, given_ in enumerate(given_arguments)}
    for field, word in (("text", "x"), ("thinking", "y")):
        n_said = b"".join(mixed).count(f'"{word}"'.encode())
        assert "".join(block.get(field, "") for block in message["content"]) == word * n_said
