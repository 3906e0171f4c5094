"""Answers of the hot path, as ASGI: bytes that are ready, whole or event by event, without a framework's rendering."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from app.http.disconnect import ClientLeft, Watch

if TYPE_CHECKING:
    from litestar.types import Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # no proxy on the way may hold events back
]


class JsonAnswer:
    """A whole JSON body, status 200."""

    __slots__ = ("_body", "_headers")

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        self._body = body
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [_JSON, (b"content-length", b"%d" % len(self._body)), *_encoded(self._headers)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


class EventStream:
    """Server-sent events as they come. A client that leaves closes `events`; one that reads slowly slows them down."""

    __slots__ = ("_events", "_headers")

    def __init__(self, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        self._events = events
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with Watch(scope, receive):
                async with aclosing(self._events):  # type: ignore[type-var]  # an async generator
                    headers = [*_EVENTS, *_encoded(self._headers)]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    async for event in self._events:
                        await send({"type": "http.response.body", "body": event, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientLeft:
            pass  # nobody is there to read the rest


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
