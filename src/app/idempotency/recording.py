"""One request on its way through the handler: its body as the handler reads it, its answer as the client gets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from app.http.answer import BROKE_OFF
from app.idempotency.model import Answer
from app.idempotency.sealing import Fingerprint

if TYPE_CHECKING:
    from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive, Send, WebSocketReceiveMessage

MAX_ANSWER_BYTES = 1024 * 1024
"""4,000 tokens streamed are 1 MB of events, a page of vectors a few hundred KB. Larger ones are not kept."""

FINAL_REFUSALS = frozenset({400, 404, 413, 415, 422})
"""They follow from the request, and sending it again changes nothing. All others may end differently next time:
credentials, money, limits, conflicts, time, and whatever is 5xx."""

KEPT_HEADERS = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-disposition",
        b"cache-control",
        b"location",
        b"x-accel-buffering",
        b"x-should-retry",
    }
)
"""And `x-wattos-…`. The others are the connection's or the moment's."""

Finish = Callable[[int, Answer | None], Awaitable[None]]
"""Is told status and answer, None when that is too large, before the answer's last byte leaves."""


class Given:
    """A `receive` for a body that has been read."""

    def __init__(self, body: bytes, fingerprint: Fingerprint, receive: Receive) -> None:
        fingerprint.add(body)
        self.fingerprint = fingerprint.done()
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class Passing:
    """A `receive` that hashes what passes."""

    def __init__(self, fingerprint: Fingerprint, receive: Receive) -> None:
        self._fingerprint = fingerprint
        self._receive = receive
        self._is_whole = False

    async def __call__(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.request":
            self._fingerprint.add(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
        return message

    @property
    def fingerprint(self) -> bytes | None:
        """None when part of the body was not read: what is not known cannot be compared."""
        return self._fingerprint.done() if self._is_whole else None


class Recording:
    """A `send` that keeps what passes, up to a bound. `is_finished`: it was an answer that stays."""

    def __init__(self, scope: HTTPScope, send: Send, finish: Finish) -> None:
        self._scope = scope
        self._send = send
        self._finish = finish
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._n_bytes = 0
        self.is_finished = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [pair for pair in message.get("headers", ()) if is_kept(pair[0])]
        elif message["type"] == "http.response.body":
            self._add(message.get("body", b""))
            if not message.get("more_body", False) and self._is_final():
                # Before the last byte leaves: who has the whole answer finds it kept.
                kept = Answer(self._status, self._headers, b"".join(self._pieces))
                self.is_finished = True
                await self._finish(self._status, kept if self._n_bytes <= MAX_ANSWER_BYTES else None)
        await self._send(message)

    def _add(self, piece: bytes) -> None:
        self._n_bytes += len(piece)
        if self._n_bytes <= MAX_ANSWER_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _is_final(self) -> bool:
        if self._scope["state"].get(BROKE_OFF):
            return False
        return 200 <= self._status < 300 or self._status in FINAL_REFUSALS


def is_kept(name: bytes) -> bool:
    low = name.lower()
    return low in KEPT_HEADERS or low.startswith(b"x-wattos-")
