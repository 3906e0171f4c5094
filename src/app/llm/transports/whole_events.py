"""From the bytes of a stream, as the network tears them, to whole server-sent events with bare newlines."""

from __future__ import annotations

from app.errors import UpstreamUnavailable

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""A picture in base64 fits; who sends more without a blank line is not sending events."""

END = b"\n\n"


class WholeEvents:
    """Feed it what comes; it gives back what is whole. UTF-8 is never cut: only blank lines are looked for."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_plain = True

    def feed(self, piece: bytes) -> bytes:
        """Whole events, each ended by a blank line; empty while there is none. Raises: UpstreamUnavailable."""
        wire = self._rest + piece if self._rest else piece
        if b"\r" in wire:
            self._is_plain = False
        if not self._is_plain:
            wire, held = (wire[:-1], b"\r") if wire.endswith(b"\r") else (wire, b"")
            wire = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        end = wire.rfind(END)
        if end < 0:
            self._rest = wire + held
            if len(self._rest) > MAX_EVENT_BYTES:
                raise UpstreamUnavailable("an event of the stream is too long")
            return b""
        self._rest = wire[end + 2 :] + held
        return wire[: end + 2]

    def last(self) -> bytes:
        """What came after the last blank line, as an event of its own: many servers end without one."""
        rest, self._rest = self._rest.rstrip(b"\r\n"), b""
        return rest + END if rest else b""


def data_of(event: bytes) -> bytes:
    """The payload of one event without its blank line; empty for comments and events without data."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
