"""A stream of Anthropic's, read as far as needed: the model's name becomes the alias, usage is taken out of it.

All other events are passed on as they came, most of them without being decoded.
https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from typing import Any

import msgspec

from app.errors import UpstreamUnavailable
from app.llm.events import event
from app.llm.model import Events, Target, Usage
from app.llm.transports.anthropic_wire import WireUsage, refused_in_answer
from app.llm.transports.refusals import Said
from app.llm.transports.whole_events import END, data_of
from plugins.contract.errors import WattosError

DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta"'
"""How Anthropic begins nearly all of its events."""

SAYS_NOTHING = frozenset({"message_start", "content_block_start", "content_block_stop", "ping"})
"""They announce an answer: another target may still give it. A tool call's beginning says which tool, though."""


class _Kind(msgspec.Struct):
    type: str


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    """The fields that are read, of any event."""

    type: str
    usage: WireUsage | None = None
    error: Said | None = None
    delta: _Delta | None = None
    content_block: _Kind | None = None


class _Started(msgspec.Struct):
    usage: WireUsage | None = None


_event_decoder = msgspec.json.Decoder(_Event)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class AnthropicEvents:
    """One stream. `is_finished`: the target said why it ended. `usage`: what it counted so far."""

    def __init__(self, target: Target, alias: str) -> None:
        self._target = target
        self._alias = msgspec.Raw(msgspec.json.encode(alias))
        self._counted = WireUsage()
        self._has_token = False
        self.is_finished = False
        self.is_done = False
        """`message_stop` has come."""
        self.error: WattosError | None = None
        """To be raised behind what `read` has returned: what was said before an error event is not lost."""

    @property
    def usage(self) -> Usage | None:
        return self._counted.usage

    def read(self, wire: bytes) -> Events | None:
        """`wire` holds whole events. None when nothing of it is for the client.

        Raises: what an error event says, or UpstreamUnavailable for what is no event, while another target may still
        give the answer; later they are left in `error`.
        """
        had_token = self._has_token
        if had_token and _is_deltas(wire):
            return Events(wire=wire)
        shown: list[bytes] = []
        try:
            for whole in wire.split(END):
                shown.append(self._read(whole))
        except WattosError as exc:
            if not had_token:
                raise
            self.error = exc
        whole_wire = b"".join(shown)
        return Events(wire=whole_wire, is_token=self._has_token) if whole_wire else None

    def _read(self, whole: bytes) -> bytes:
        data = data_of(whole.strip(b"\n"))
        if not data or self.is_done:
            return b""
        try:
            data.decode()
            read = _event_decoder.decode(data)
            if read.type == "message_start":
                data = self._started(data)
            elif b"\n" in data:
                data = msgspec.json.encode(_object_decoder.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamUnavailable(f"{self._target.id} sent something that is no event of an answer") from None
        if read.type == "error" or read.error is not None:
            raise refused_in_answer(self._target, read.error or Said())
        if read.usage is not None:
            self._counted = self._counted.updated(read.usage)
        if read.delta is not None and read.delta.stop_reason:
            self.is_finished = True
        if read.type == "message_stop":
            self.is_finished = self.is_done = True
        calls = read.content_block is not None and read.content_block.type not in {"text", "thinking"}
        self._has_token = self._has_token or calls or read.type not in SAYS_NOTHING
        return event(data, read.type.encode())

    def _started(self, data: bytes) -> bytes:
        """`message_start` under the alias."""
        body: dict[str, Any] = _object_decoder.decode(data)
        message = _object_decoder.decode(body["message"]) if "message" in body else {}
        message["model"] = self._alias
        body["message"] = message
        started = msgspec.json.decode(msgspec.json.encode(message), type=_Started)
        if started.usage is not None:
            self._counted = self._counted.updated(started.usage)
        return msgspec.json.encode(body)


def _is_deltas(wire: bytes) -> bool:
    """All of them alike, and in the form in which we would write them."""
    n = wire.count(END)
    ends, lines = wire.count(b"}\n\n"), wire.count(b"\n")
    return wire.startswith(DELTA) and wire.count(DELTA) == n == ends and lines == 3 * n
