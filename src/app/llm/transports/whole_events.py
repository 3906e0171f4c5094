"""From the bytes of a stream, as the network tears them, to whole server-sent events with bare newlines."""

from __future__ import annotations

from app.errors import UpstreamUnavailable

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""A picture in base64 fits; who sends more without a blank line is not sending events."""

END = b"\n\n"


class WholeEvents:
    """Feed it what comes; it gives back what is whole. UTF-8 is never cut: only blank lines are looked for."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._n_bytes = 0
        self._has_cr = False

    def feed(self, piece: bytes) -> bytes:
        """Whole events, each ended by a blank line; empty while there is none. Raises: UpstreamUnavailable."""
        self._parts.append(piece)
        self._n_bytes += len(piece)
        if self._n_bytes > MAX_EVENT_BYTES and len(self._parts) > 1 and b"\n" not in piece:
            raise UpstreamUnavailable("an event of the stream is too long")
        if b"\n" not in piece and b"\r" not in piece:
            return b""  # no line ends here: a long event is put together once
        wire = b"".join(self._parts) if len(self._parts) > 1 else piece
        held = b""
        self._has_cr = self._has_cr or b"\r" in wire
        if self._has_cr:
            wire, held = (wire[:-1], b"\r") if wire.endswith(b"\r") else (wire, b"")
            wire = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = wire.rfind(END)
        rest = wire[end + 2 :] + held if end >= 0 else wire + held
        self._parts, self._n_bytes = ([rest] if rest else []), len(rest)
        if self._n_bytes > MAX_EVENT_BYTES:
            raise UpstreamUnavailable("an event of the stream is too long")
        return wire[: end + 2] if end >= 0 else b""

    def last(self) -> bytes:
        """What came after the last blank line, as an event of its own: many servers end without one."""
        rest, self._parts = b"".join(self._parts).rstrip(b"\r\n"), []
        return rest + END if rest else b""


def data_of(event: bytes) -> bytes:
    """The payload of one event without its blank line; empty for comments and events without data."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
