"""What of an answer may be given again: one that is complete, ended by itself, and asks for no tool."""

from __future__ import annotations

import msgspec

from app.llm.events import payloads
from app.llm.model import Endpoint, Events, Usage
from app.llm.transports.anthropic_wire import WireUsage

MAX_ANSWER_BYTES = 1024 * 1024
"""Ten times the longest answers. What is longer is not kept, and a stream's no longer recorded."""

ENDED_WELL = frozenset({"stop", "length", "end_turn", "max_tokens", "stop_sequence"})
"""Of both wires. What a filter cut off, or a vendor paused, may go otherwise the next time."""

SAYS_ITSELF = frozenset({"text", "thinking", "redacted_thinking"})
"""Blocks of Anthropic's wire that are an answer; all others call something."""


class _Said(msgspec.Struct):
    tool_calls: list[msgspec.Raw] | None = None
    function_call: dict[str, msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: str | None = None

    @property
    def calls_tool(self) -> bool:
        said = self.message or self.delta
        return said is not None and bool(said.tool_calls or said.function_call)


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    x_wattos_seam: dict[str, msgspec.Raw] | None = None


class _Block(msgspec.Struct):
    type: str = ""


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: WireUsage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: WireUsage | None = None


_completions = msgspec.json.Decoder(_Completion)
_messages = msgspec.json.Decoder(_Message)
_events = msgspec.json.Decoder(_Event)


def may_be_kept(endpoint: Endpoint, body: bytes, n: int) -> bool:
    """Of a whole answer, which has `n` choices."""
    if len(body) > MAX_ANSWER_BYTES:
        return False
    try:
        if endpoint == "messages":
            message = _messages.decode(body)
            return message.stop_reason in ENDED_WELL and all(b.type in SAYS_ITSELF for b in message.content)
        choices = _completions.decode(body).choices
    except (msgspec.DecodeError, RecursionError):
        return False
    return len(choices) >= n and all(c.finish_reason in ENDED_WELL and not c.calls_tool for c in choices)


class _OfCompletion:
    """Reads a stream's events as they pass; `read` says whether it may still be kept. Raises: msgspec.DecodeError."""

    usage: Usage | None = None

    def __init__(self, n: int) -> None:
        self._n = n
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def read(self, data: bytes) -> bool:
        chunk = _completions.decode(data)
        for choice in chunk.choices:
            self._begun.add(choice.index)
            if choice.calls_tool or (choice.finish_reason and choice.finish_reason not in ENDED_WELL):
                return False
            if choice.finish_reason:
                self._ended.add(choice.index)
        return chunk.x_wattos_seam is None

    @property
    def is_good(self) -> bool:
        return len(self._begun) >= self._n and self._begun == self._ended


class _OfMessage:
    """The same on Anthropic's wire."""

    def __init__(self) -> None:
        self._counted = WireUsage()
        self._reason: str | None = None
        self._is_done = False

    def read(self, data: bytes) -> bool:
        event = _events.decode(data)
        for counted in (event.message and event.message.usage, event.usage):
            self._counted = self._counted.updated(counted) if counted else self._counted
        self._reason = (event.delta and event.delta.stop_reason) or self._reason
        self._is_done = self._is_done or event.type == "message_stop"
        return event.content_block is None or event.content_block.type in SAYS_ITSELF

    @property
    def usage(self) -> Usage | None:
        return self._counted.usage

    @property
    def is_good(self) -> bool:
        return self._is_done and self._reason in ENDED_WELL


class Recording:
    """One stream as it passes. `wires`: its events, but for those that only tell the usage."""

    def __init__(self, endpoint: Endpoint, n: int) -> None:
        """`n`: choices that the whole answer has."""
        self._ending = _OfMessage() if endpoint == "messages" else _OfCompletion(n)
        self._tells_usage = endpoint != "messages"
        self._may_be_kept = True
        self._n_bytes = 0
        self._usage: Usage | None = None
        self.wires: list[bytes] = []
        self.usage_wire = b""

    def add(self, piece: Events) -> bool:
        """Whether it is for all clients: on OpenAI's wire the usage is for those who asked for it."""
        self._usage = piece.usage or self._usage
        if self._tells_usage and piece.usage is not None:
            self.usage_wire = piece.wire
            return False
        if self._may_be_kept:
            self._n_bytes += len(piece.wire)
            self._may_be_kept = self._n_bytes <= MAX_ANSWER_BYTES and self._read(piece.wire)
            self.wires.append(piece.wire)
            if not self._may_be_kept:
                self.wires.clear()
        return True

    @property
    def usage(self) -> Usage | None:
        return self._usage or self._ending.usage

    @property
    def is_good(self) -> bool:
        """Now that the stream has ended: it may be given again."""
        return self._may_be_kept and self._ending.is_good

    def _read(self, wire: bytes) -> bool:
        try:
            return all(self._ending.read(data) for data in payloads(wire))
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
