"""A stream's end on the wire: `[DONE]`, or exactly one error event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.errors import UpstreamTimeout
from app.http.answer import AnthropicEventStream, EventStream
from app.http.disconnect import Departure
from app.llm.events import event
from app.llm.model import Events
from plugins.contract.requests import DEPARTURE
from unit.plugins.harness import eventually


class Chunks:
    """A stream of two chunks that ends as told, and knows whether it was closed."""

    def __init__(self, failure: Exception | None = None, *, hangs: bool = False) -> None:
        self.failure = failure
        self.hangs = hangs
        self.closed = False

    async def stream(self) -> AsyncIterator[Events]:
        try:
            yield Events(wire=event(b'{"a":1}'))
            yield Events(wire=event(b'{"b":2}'))
            if self.hangs:
                await asyncio.Event().wait()
            if self.failure:
                raise self.failure
        finally:
            self.closed = True


class Client:
    """The other end: what it was sent, and how it leaves."""

    def __init__(self) -> None:
        self.departure = Departure()
        self.bodies: list[bytes] = []
        self.is_over = False

    async def read(self, stream: EventStream) -> None:
        scope: Any = {"type": "http", "state": {}, DEPARTURE: self.departure}

        async def receive() -> Any:
            raise AssertionError("the departure tells of it")

        await stream(scope, receive, self._send)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])
            self.is_over = not message["more_body"]


async def test_finished_stream_ends_with_done() -> None:
    """Whole events with bare newlines, then OpenAI's end mark with the end of the body."""
    client = Client()
    await client.read(EventStream(Chunks().stream(), {}))
    assert client.bodies == [b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', b"data: [DONE]\n\n"]
    assert client.is_over


async def test_anthropics_stream_ends_by_itself() -> None:
    """There is no `[DONE]` on that wire."""
    client = Client()
    await client.read(AnthropicEventStream(Chunks().stream(), {}))
    assert client.bodies[-1] == b""
    assert client.is_over


@pytest.mark.parametrize(
    ("failure", "code"),
    [(UpstreamTimeout("too slow"), "upstream_timeout"), (KeyError("secret"), "internal_error")],
)
@pytest.mark.parametrize("kind", [EventStream, AnthropicEventStream])
async def test_broken_stream_ends_with_one_error_event(failure: Exception, code: str, kind: type[EventStream]) -> None:
    """Defect 12: typed where the failure is known; a bug of ours ends it as cleanly and shows nothing of itself."""
    client = Client()
    await client.read(kind(Chunks(failure).stream(), {}))
    *before, last = client.bodies
    assert len(before) == 2
    assert json.loads(last.removeprefix(b"event: error\n").removeprefix(b"data: "))["error"]["code"] == code
    assert b"secret" not in last
    assert client.is_over


async def test_stream_is_closed_when_its_reader_leaves() -> None:
    """Leaving reaches the target through every layer, and nothing more is sent."""
    client, chunks = Client(), Chunks(hangs=True)
    reading = asyncio.create_task(client.read(EventStream(chunks.stream(), {})))
    async with asyncio.timeout(5):
        await eventually(lambda: len(client.bodies) == 2)
        client.departure.happens()
        await reading
    assert chunks.closed
    assert not client.is_over
