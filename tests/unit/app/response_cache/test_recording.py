"""What of an answer may be given again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.llm.events import event
from app.llm.model import Endpoint, Events, Usage
from app.response_cache.recording import MAX_ANSWER_BYTES, Recording, may_be_kept

COUNTED = Usage(input_tokens=7, output_tokens=3)


def choice(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def piece(*choices: dict[str, Any], **fields: Any) -> Events:
    return Events(wire=event(msgspec.json.encode({"choices": choices, **fields})))


def recorded(*pieces: Events, endpoint: Endpoint = "chat/completions") -> Recording:
    recording = Recording(endpoint, 1)
    for one in pieces:
        recording.add(one)
    return recording


SAID, ENDED = piece(choice(content="Hi")), piece(choice(finish="stop"))


def test_a_stream_is_good_when_every_choice_has_ended() -> None:
    assert recorded(SAID, ENDED).is_good
    assert not recorded(SAID).is_good
    assert not recorded().is_good
    assert not recorded(piece(choice(0), choice(1)), ENDED).is_good
    assert recorded(piece(choice(0), choice(1)), piece(choice(1, "length")), ENDED).is_good


def test_fewer_choices_than_were_asked_for_are_no_answer() -> None:
    """The connection may have ended between two of them."""
    recording = Recording("chat/completions", 2)
    for one in (SAID, ENDED):
        recording.add(one)
    assert not recording.is_good
    whole = msgspec.json.encode({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})
    assert may_be_kept("chat/completions", whole, 1)
    assert not may_be_kept("chat/completions", whole, 2)


@pytest.mark.parametrize(
    "bad",
    [
        piece(choice(tool_calls=[{"index": 0, "function": {"name": "f"}}])),
        piece(choice(function_call={"name": "f"})),
        piece(choice(finish="content_filter")),
        piece(choice(finish="tool_calls")),
        piece(choice(content="so"), x_wattos_seam={"target": "other"}),
        Events(wire=b": a comment\n\n"),
        Events(wire=b"data: [1\n\n"),
        Events(wire=event(b'{"choices":[]}' + b" " * MAX_ANSWER_BYTES)),
    ],
)
def test_one_bad_piece_is_enough(bad: Events) -> None:
    """Then nothing of it is held in memory any more, either."""
    recording = recorded(SAID, bad, ENDED)
    assert not recording.is_good
    assert recording.wires == []


def test_usage_is_recorded_beside_the_answer() -> None:
    """On OpenAI's wire it is for those who ask; on Anthropic's it is part of what everybody gets."""
    usage = Events(wire=b"data: {}\n\n", usage=COUNTED)
    recording = recorded(SAID, ENDED)
    assert not recording.add(usage)
    assert (recording.wires, recording.usage_wire) == ([SAID.wire, ENDED.wire], usage.wire)
    assert recording.usage == COUNTED


def named(kind: str, **fields: Any) -> Events:
    return Events(wire=event(msgspec.json.encode({"type": kind, **fields}), kind.encode()))


def test_a_message_is_good_when_it_stopped_by_itself() -> None:
    begun = named("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 1}})
    block = named("content_block_start", content_block={"type": "text", "text": ""})
    why = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
    done = named("message_stop")

    def good(*pieces: Events) -> bool:
        return recorded(*pieces, endpoint="messages").is_good

    assert good(begun, block, why, done)
    assert recorded(begun, why, endpoint="messages").usage == COUNTED
    assert not good(begun, block, why)
    assert not good(begun, named("content_block_start", content_block={"type": "tool_use", "name": "f"}), why, done)
    assert not good(begun, block, named("message_delta", delta={"stop_reason": "refusal"}), done)
    assert not good(begun, block, named("message_delta", delta={"stop_reason": "pause_turn"}), done)


@pytest.mark.parametrize(
    ("endpoint", "body", "may"),
    [
        ("chat/completions", {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}, True),
        ("chat/completions", {"choices": [{"message": {"tool_calls": []}, "finish_reason": "stop"}]}, True),
        ("chat/completions", {"choices": [{"message": {"tool_calls": [{}]}, "finish_reason": "stop"}]}, False),
        ("chat/completions", {"choices": [{"message": {"content": "Hi"}}]}, False),
        ("chat/completions", {"choices": []}, False),
        ("chat/completions", {"choices": [{"finish_reason": 7}]}, False),
        ("completions", {"choices": [{"text": "Hi", "finish_reason": "length"}]}, True),
        ("messages", {"content": [{"type": "text"}], "stop_reason": "end_turn"}, True),
        ("messages", {"content": [{"type": "tool_use"}], "stop_reason": "end_turn"}, False),
        ("messages", {"content": [{"type": "text"}], "stop_reason": "tool_use"}, False),
    ],
)
def test_a_whole_answer_is_kept_when_it_ended_well(endpoint: Endpoint, body: object, may: bool) -> None:
    assert may_be_kept(endpoint, msgspec.json.encode(body), 1) is may


def test_a_whole_answer_that_is_too_long_is_not_kept() -> None:
    body = {"choices": [{"message": {"content": "x" * MAX_ANSWER_BYTES}, "finish_reason": "stop"}]}
    assert not may_be_kept("chat/completions", msgspec.json.encode(body), 1)
