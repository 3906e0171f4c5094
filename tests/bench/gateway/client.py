"""HTTP/1.1 as a load generator needs it: one raw protocol, no parsing beyond status, length and the end of the body.

It shares the machine with what it measures, so it must cost little: about 20 µs a plain call, of which most is the
kernel's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

LENGTH = b"content-length:"
CHUNKED = b"transfer-encoding: chunked"
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
DONE = b"data: [DONE]"
TAIL_BYTES = 64
"""Of a chunked body, kept to see how it ends: the last event and the last chunk."""


class Exchange(Protocol):
    """Who asked, and wants to know how it went."""

    def answered(self, error: str | None, first_byte_at: float) -> None: ...


class Connection(asyncio.Protocol):
    """One connection with at most one request under way. Tell it `send`; it tells the exchange once."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self.sent_at = 0.0
        self._is_stream = False
        self._forget()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    @property
    def is_idle(self) -> bool:
        return self._exchange is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def send(self, request: bytes, exchange: Exchange, *, is_stream: bool) -> None:
        assert self.transport is not None
        self._forget()
        self._exchange, self._is_stream = exchange, is_stream
        self.sent_at = self._now()
        self.transport.write(request)

    def abort(self, error: str) -> None:
        if self.transport is not None:
            self.transport.abort()
        self._finish(error)

    def _forget(self) -> None:
        self._head = b""
        self._status = 0
        self._missing = -1
        """Bytes of the body still to come; -1: chunked."""
        self._tail = b""
        self._closes = False
        self._first_byte_at = 0.0

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.abort("malformed")
            return
        if not self._status:
            data = self._read_head(data)
            if not self._status:
                return
        if data and not self._first_byte_at:
            self._first_byte_at = self._now()
        if self._missing >= 0:
            self._missing -= len(data)
            if self._missing <= 0:
                self._finish("malformed" if self._missing < 0 else self._verdict())
            return
        self._tail = (self._tail + data)[-TAIL_BYTES:] if len(data) < TAIL_BYTES else data[-TAIL_BYTES:]
        if self._tail.endswith(END_OF_CHUNKS):
            self._finish(self._verdict())

    def _read_head(self, data: bytes) -> bytes:
        """Returns: what is behind the head, if that is whole."""
        head, end, body = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        lowered = head.lower()
        try:
            self._status = int(head[9:12])
            at = lowered.find(LENGTH)
            self._missing = int(lowered[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else -1
        except ValueError:
            self.abort("malformed")
            return b""
        if self._missing < 0 and CHUNKED not in lowered:
            self.abort("malformed")
        self._closes = b"connection: close" in lowered
        if self._missing < 0:
            self._tail = b"\r\n"  # as if a chunk had ended, so that an empty body has its end too
        return body

    def _verdict(self) -> str | None:
        if self._status != 200:
            return f"status_{self._status}"
        return "no_done" if self._is_stream and DONE not in self._tail else None

    def _finish(self, error: str | None) -> None:
        exchange, self._exchange = self._exchange, None
        if self._closes and self.transport is not None:
            self.transport.close()
        if exchange is not None:
            exchange.answered(error, self._first_byte_at)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish("reset" if exc is not None else "cut")
