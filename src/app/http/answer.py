"""Answers of the hot path, as ASGI: bytes that are ready, whole or event by event, without a framework's rendering."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from app.http.anthropic_errors import anthropic_error_event
from app.http.disconnect import ClientLeft, Watch
from app.http.sse import DONE, error_event
from plugins.contract.errors import WattosError

if TYPE_CHECKING:
    from litestar.types import HTTPResponseStartEvent, Receive, Scope, Send

logger = logging.getLogger("http")

Headers = list[tuple[bytes, bytes]]

BROKE_OFF = "broke_off"
"""Key in `scope["state"]`: this stream ended with an error. Its status, 200, does not tell."""

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


class Piece(Protocol):
    """Whole events, as they go to the client."""

    @property
    def wire(self) -> bytes: ...


class EventStream:
    """Server-sent events as they come. A client that leaves closes `pieces`; one that reads slowly slows them down.

    On OpenAI's wire `[DONE]` ends it; a failure after the first piece exactly one error event, and no `[DONE]`.
    """

    done: bytes = DONE
    error: Callable[[WattosError], bytes] = staticmethod(error_event)

    def __init__(self, pieces: AsyncIterator[Piece], headers: Mapping[str, str]) -> None:
        self._pieces = pieces
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with Watch(scope, receive):
                async with aclosing(self._pieces):  # type: ignore[type-var]  # an async generator
                    last = await self._relayed(send)
                if last is not self.done:
                    scope["state"][BROKE_OFF] = True
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except ClientLeft:
            pass  # nobody is there to read the rest

    async def _relayed(self, send: Send) -> bytes:
        """Returns: what ends the stream."""
        headers = [*_EVENTS, *_encoded(self._headers)]
        head: HTTPResponseStartEvent | None = {"type": "http.response.start", "status": 200, "headers": headers}
        last = self.done
        try:
            async for piece in self._pieces:
                if head:  # not before the pieces have begun: closing them early then does what their end must do
                    await send(head)
                    head = None
                await send({"type": "http.response.body", "body": piece.wire, "more_body": True})
        except WattosError as exc:
            last = self.error(exc)
        except Exception as exc:  # the status is as good as sent: an event is all that is left to tell the client
            logger.exception("unhandled %s in a stream", type(exc).__name__)
            last = self.error(WattosError("internal error"))
        if head:
            await send(head)
        return last


class AnthropicEventStream(EventStream):
    """The same on Anthropic's wire: its own `message_stop` ends it, or one `error` event."""

    done = b""
    error = staticmethod(anthropic_error_event)


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
