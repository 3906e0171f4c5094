"""Chat's answers, and a strict reader of Anthropic's stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from app.llm.events import event, payloads
from app.llm.model import Call, Events, Reply, Target, Usage

USAGE = Usage(input_tokens=127, output_tokens=9, cached_tokens=100, cache_write_tokens=20, reasoning_tokens=4)
SHOWN_USAGE = {
    "input_tokens": 7,
    "output_tokens": 9,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 4},
}
TARGET = Target(id="a", alias="chat", provider_model="openai/gpt", transport="direct")


def completion(finish: str | None = "stop", choice: Mapping[str, Any] | None = None, **message: object) -> bytes:
    said = {"role": "assistant", "content": None, **message}
    made = {"index": 0, "message": said, "finish_reason": finish, **(choice or {})}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [made]}).encode()


def chunk(finish: str | None = None, **delta: object) -> bytes:
    made = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [made]}).encode()


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def piece(index: int, arguments: str | None = None, name: str | None = None, call_id: str | None = None) -> bytes:
    """A chunk with a part of one tool call."""
    function: dict[str, Any] = {} if arguments is None else {"arguments": arguments}
    if name is not None:
        function["name"] = name
    head = {} if call_id is None else {"id": call_id, "type": "function"}
    return chunk(tool_calls=[{"index": index, **head, "function": function}])


def read(wire: bytes) -> dict[str, Any]:
    """The message that a stream tells. Raises: AssertionError where a block is not whole or not in its turn."""
    message: dict[str, Any] = {}
    is_open, arguments, is_over = False, "", False
    for whole in wire.split(b"\n\n")[:-1]:
        name, data = whole.split(b"\n")
        body = json.loads(data.removeprefix(b"data: "))
        kind = body["type"]
        assert name == b"event: " + kind.encode()
        assert bool(message) == (kind != "message_start")
        assert not is_over
        if kind == "message_start":
            message = body["message"]
            assert message["content"] == []
        elif kind == "content_block_start":
            assert (is_open, body["index"]) == (False, len(message["content"]))
            is_open, arguments = True, ""
            message["content"].append(body["content_block"])
        elif kind == "content_block_delta":
            assert (is_open, body["index"]) == (True, len(message["content"]) - 1)
            block, delta = message["content"][-1], body["delta"]
            if delta["type"] == "input_json_delta":
                assert block["type"] == "tool_use"
                arguments += delta["partial_json"]
            else:
                field = {"text_delta": "text", "thinking_delta": "thinking"}[delta["type"]]
                assert block["type"] == field
                block[field] += delta[field]
        elif kind == "content_block_stop":
            assert (is_open, body["index"]) == (True, len(message["content"]) - 1)
            is_open = False
            if message["content"][-1]["type"] == "tool_use":
                message["content"][-1]["input"] = json.loads(arguments or "{}")
        elif kind == "message_delta":
            assert not is_open
            message |= body["delta"]
            message["usage"] = body["usage"]
        else:
            assert kind == "message_stop"
            is_over = True
    assert is_over
    return message


def asking(**fields: object) -> Call:
    given = {"max_tokens": 9, "messages": [{"role": "user", "content": "ping"}], **fields}
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in given.items()}
    return Call(alias="chat", fields=raw, endpoint="messages", stream=bool(fields.get("stream")))


class ScriptedChat:
    """A chat transport that answers what it is given, and remembers what it was asked."""

    def __init__(
        self, *, body: bytes = b"", pieces: Sequence[Sequence[bytes]] = (), usage: Usage | None = USAGE
    ) -> None:
        self.asked: list[Call] = []
        self.is_closed = False
        self._body, self._pieces, self._usage = body, pieces, usage

    async def complete(self, target: Target, call: Call) -> Reply:
        self.asked.append(call)
        return Reply(body=self._body, usage=self._usage)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        self.asked.append(call)
        try:
            for number, chunks in enumerate(self._pieces):
                yield Events(wire=b"".join(map(event, chunks)), is_token=number > 0)
            if self._usage is not None:
                yield Events(wire=event(chunk()), usage=self._usage)
        finally:
            self.is_closed = True


def bodies(wire: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for data in payloads(wire)]
