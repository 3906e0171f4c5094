"""Server-sent events as they stand on the wire: `data: …` and a blank line, bare newlines (Litestar's own SSE adds CR).

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Iterator


def event(data: bytes, name: bytes = b"") -> bytes:
    """One whole event. `data` is one line of JSON; `name` is Anthropic's `event:`, OpenAI's have none."""
    return b"event: " + name + b"\ndata: " + data + b"\n\n" if name else b"data: " + data + b"\n\n"


def payloads(wire: bytes) -> Iterator[bytes]:
    """The JSON of each event of `wire`, which holds whole events as `event` makes them."""
    for whole in wire.split(b"\n\n"):
        if whole:
            yield whole[whole.index(b"data: ") + 6 :]
