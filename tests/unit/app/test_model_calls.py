"""A stream's end on the wire: `[DONE]`, or exactly one error event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from app.errors import UpstreamTimeout
from app.llm.events import event
from app.llm.model import Events
from app.model_calls import events


class Chunks:
    """A stream of two chunks that ends as told, and knows whether it was closed."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.closed = False

    async def stream(self) -> AsyncIterator[Events]:
        try:
            yield Events(wire=event(b'{"a":1}'))
            yield Events(wire=event(b'{"b":2}'))
            if self.failure:
                raise self.failure
        finally:
            self.closed = True


async def test_finished_stream_ends_with_done() -> None:
    """Whole events with bare newlines, then OpenAI's end mark."""
    seen = [event async for event in events(Chunks().stream())]
    assert seen == [b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', b"data: [DONE]\n\n"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [(UpstreamTimeout("too slow"), "upstream_timeout"), (KeyError("secret"), "internal_error")],
)
async def test_broken_stream_ends_with_one_error_event(failure: Exception, code: str) -> None:
    """Defect 12: typed where the failure is known; a bug of ours ends it as cleanly and shows nothing of itself."""
    *before, last = [event async for event in events(Chunks(failure).stream())]
    assert len(before) == 2
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == code
    assert b"secret" not in last


async def test_stream_is_closed_when_its_reader_leaves() -> None:
    """Leaving reaches the target through every layer."""
    chunks = Chunks()
    reading = events(chunks.stream())
    await anext(reading)
    await reading.aclose()  # type: ignore[attr-defined]
    assert chunks.closed
