"""The chunks of a chat completion as the events of Anthropic's stream.

Its blocks follow each other: one begins when the one before has ended. Chat's tool calls may come mixed, so the first
block that is open goes out as it comes, and what belongs to later ones is held until their turn.
https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from app.errors import UpstreamUnavailable
from app.llm.events import event
from app.llm.model import Usage
from app.llm.transports.anthropic_wire import shown_usage
from app.messages.from_chat import Choice, Completion, Said, envelope, stop_reason_of, stopped_by, tool_id

Kind = Literal["text", "thinking", "tool_use"]

MAX_KEPT_CHARS = 16 * 1024 * 1024
"""Of tool calls, held or only to be told when they are whole: as much as one event of a stream may have."""

_DELTAS: dict[Kind, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
"""Each kind's delta, and the field that holds the piece."""

_NOTHING = Usage(input_tokens=0, output_tokens=0)
_decoder = msgspec.json.Decoder(Completion)


class _Block:
    """One block. `waiting`: pieces that were not sent. `written`: all of a tool call's arguments so far."""

    __slots__ = ("call_index", "id", "is_out", "kind", "name", "waiting", "written")

    def __init__(self, kind: Kind, call_index: int | None) -> None:
        self.kind: Kind = kind
        self.call_index = call_index
        self.id: str | None = None
        self.name = ""
        self.is_out = False
        self.waiting: list[str] = []
        self.written: list[str] = []

    def add(self, piece: str) -> None:
        if piece:
            self.waiting.append(piece)
            if self.call_index is not None:
                self.written.append(piece)

    def head(self) -> dict[str, Any]:
        match self.kind:
            case "text":
                return {"type": "text", "text": "", "citations": None}
            case "thinking":
                return {"type": "thinking", "thinking": "", "signature": ""}
            case "tool_use":
                return {"type": "tool_use", "id": tool_id(self.id), "name": self.name, "input": {}}

    @property
    def is_complete(self) -> bool:
        """Nothing can follow: another block has begun, and a tool call's arguments are a whole object."""
        if self.call_index is None:
            return True
        try:
            msgspec.json.decode("".join(self.written), type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class MessageEvents:
    """One stream. Feed it chunks in order, then `finish` it."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._has_begun = self._has_tools = self._is_refusal = False
        self._n_blocks = self._n_kept = 0
        self._open: _Block | None = None
        self._held: list[_Block] = []
        self._ended_calls: set[int] = set()
        self._may_move_on = False
        """Something came after which the open tool call may be complete: to look each time would be quadratic."""
        self._last = Choice()

    def feed(self, chunk: bytes) -> bytes:
        """The events that a chunk makes, perhaps none.

        Raises: msgspec.DecodeError when it is no chunk, UpstreamUnavailable when tool calls have no end.
        """
        choice = _decoder.decode(chunk).first
        wire = self._beginning()
        if choice is None:
            return wire
        if choice.finish_reason:
            self._last = choice
        if choice.delta is not None:
            self._take(choice.delta)
            wire += self._sent(is_last=False)
        return wire

    def finish(self, usage: Usage) -> bytes:
        """The rest: what is open or held, why the answer ended, and what it used."""
        wire = self._beginning() + self._sent(is_last=True)
        reason = stop_reason_of(self._last, has_tools=self._has_tools, is_refusal=self._is_refusal)
        delta = {"stop_reason": reason, "stop_sequence": stopped_by(self._last)}
        wire += _event("message_delta", delta=delta, usage=shown_usage(usage))
        return wire + _event("message_stop")

    def _beginning(self) -> bytes:
        """What goes in is counted at the end alone: chat says nothing of it before."""
        if self._has_begun:
            return b""
        self._has_begun = True
        message: dict[str, Any] = {**envelope(self._alias), "content": [], "stop_reason": None, "stop_sequence": None}
        return _event("message_start", message={**message, "usage": shown_usage(_NOTHING)})

    def _take(self, delta: Said) -> None:
        """Each piece to its block."""
        if thought := delta.thought:
            self._telling("thinking").add(thought)
        if text := delta.text:
            self._is_refusal = self._is_refusal or bool(delta.refusal)
            self._telling("text").add(text)
        for call in delta.tool_calls or ():
            self._has_tools = True
            if call.index in self._ended_calls:
                continue  # its arguments were whole
            block = self._calling(call.index)
            block.id = block.id or call.id
            if call.function is not None:
                piece = call.function.arguments or ""
                block.name = block.name or call.function.name or ""
                block.add(piece)
                self._n_kept += len(piece)
                self._may_move_on = self._may_move_on or piece.rstrip().endswith("}")
        if self._n_kept > MAX_KEPT_CHARS:
            raise UpstreamUnavailable("the target writes tool calls without end")

    def _telling(self, kind: Kind) -> _Block:
        """The last block if it is of this kind, or a new one."""
        last = self._held[-1] if self._held else self._open
        return last if last is not None and last.kind == kind else self._new(_Block(kind, None))

    def _calling(self, index: int) -> _Block:
        for block in (self._open, *self._held):
            if block is not None and block.call_index == index:
                return block
        return self._new(_Block("tool_use", index))

    def _new(self, block: _Block) -> _Block:
        self._held.append(block)
        self._may_move_on = True
        return block

    def _sent(self, *, is_last: bool) -> bytes:
        """All that can be sent now."""
        wire: list[bytes] = []
        while True:
            if self._open is None:
                if not self._held:
                    break
                self._open = self._held.pop(0)
            wire.append(self._of_open(is_last=is_last))
            if not (is_last or (self._held and self._may_move_on and self._open.is_complete)):
                break
            if self._open.call_index is not None:
                self._ended_calls.add(self._open.call_index)
            wire.append(_event("content_block_stop", index=self._n_blocks))
            self._n_blocks += 1
            self._open = None
        self._may_move_on = False
        return b"".join(wire)

    def _of_open(self, *, is_last: bool) -> bytes:
        """A tool call begins once its name is known."""
        block, wire = self._open, b""
        assert block is not None
        if block.kind == "tool_use" and not (block.name or block.is_out or is_last):
            return wire
        if not block.is_out:
            block.is_out = True
            wire = _event("content_block_start", index=self._n_blocks, content_block=block.head())
        if block.waiting:
            kind, field = _DELTAS[block.kind]
            delta = {"type": kind, field: "".join(block.waiting)}
            block.waiting.clear()
            wire += _event("content_block_delta", index=self._n_blocks, delta=delta)
        return wire


def _event(name: str, **fields: Any) -> bytes:
    return event(msgspec.json.encode({"type": name, **fields}), name.encode())
