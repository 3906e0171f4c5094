"""HTTP/1.1 on the socket: uvicorn's protocol, with bounds on size and time, and refusals in our own shapes.

uvicorn waits for ever for headers, takes any number of them, and answers a malformed request in plain text. What is
refused here never becomes a request: it has an id of its own in the answer, and one line in the log without a byte of
what was sent. Slow bodies are the request's affair (`app.http.request`): there they are answered, logged and counted as
the requests that they are.
"""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.connections import Connections
from app.http.disconnect import Departure
from app.http.ending import Ending
from app.http.refusal import refusal
from app.http.request import WHOLE
from plugins.contract.requests import DEPARTURE

logger = logging.getLogger("http")

MAX_URL_BYTES = 8 * 1024
"""RFC 9110, 4.1, asks for 8,000 at least."""

MAX_HEAD_BYTES = 64 * 1024
"""Line and headers together: uvicorn's own default with its other parser."""

MAX_HEADERS = 100
"""Apache's default. A browser behind two proxies sends 30."""


MAX_PIPELINED = 16
"""Requests behind the one that is being answered. Hardly any client sends a second one; a packet holds thousands."""

UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})


class _Refused(Exception):
    """Out of a callback of the parser, which wraps it."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `guarded_protocol` makes the class that a server uses."""

    connections_of_server: ClassVar[Connections]
    write_timeout_s: ClassVar[float]

    _ending: Ending
    _departure: Departure
    _stall: asyncio.TimerHandle | None = None
    url = b""
    _refusal = "malformed_http"
    _in_head = False
    _head_bytes = 0
    _is_whole = True
    """Whether the request that was begun has been received to its end."""
    _keeps_alive = True
    _is_deaf = False
    """After a malformed request behind one that is still being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._ending = Ending(transport, self.loop)
        self._departure = Departure()
        self.transport = self._ending  # the cycles of requests close it too
        if not self.connections_of_server.opened(self):
            self._refuse("too_many_connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections_of_server.closed(self)
        self._ending.done()
        self._departure.happens()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf or self._ending.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._is_whole and not self._in_head:
            self._in_head, self._head_bytes, self.url = True, 0, b""
            if self._is_idle():
                self.connections_of_server.waits(self)
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)  # pyright: ignore[reportOptionalMemberAccess]  # None after the end alone
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        else:
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse("uri_too_long" if len(self.url) > MAX_URL_BYTES else "headers_too_large")

    def on_headers_complete(self) -> None:
        self._check_head()
        if self._wants_upgrade():
            return
        super().on_headers_complete()
        self.scope[DEPARTURE] = self._departure  # type: ignore[literal-required]  # uvicorn types its own keys alone
        self._in_head = self._is_whole = False
        self.connections_of_server.works(self)
        self._keeps_alive = self.cycle.keep_alive
        # An answer that comes before the request's end ends the connection: what follows would be read as a request.
        self.cycle.keep_alive = False
        self._ending.lingers = True
        self._ending.hold()

    def on_message_complete(self) -> None:
        if self._wants_upgrade():
            return
        self._is_whole = True
        self.scope[WHOLE] = True  # type: ignore[literal-required]  # likewise
        self._ending.lingers = False
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        has_next = bool(self.pipeline)
        super().on_response_complete()
        if not has_next and not self._ending.is_closing():
            self.connections_of_server.waits(self)

    def shutdown(self) -> None:
        self._keeps_alive = False
        super().shutdown()

    def pause_writing(self) -> None:
        """The client does not read: what it is sent must not wait for it in memory for ever."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.write_timeout_s, self._ending.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def time_out(self) -> None:
        """The headers, or the next request, did not come in time. Who sent nothing is told nothing."""
        if self._in_head and not self._ending.is_closing():
            self._refuse("request_timeout")
        else:
            self._ending.close()

    def make_room(self) -> None:
        """Another connection needs the place of this one, which has no request."""
        self._ending.close()

    def _is_idle(self) -> bool:
        return not self.cycle or self.cycle.response_complete  # None before the first request, whatever its type

    def _check_head(self) -> None:
        if len(self.url) > MAX_URL_BYTES:
            self._refusal = "uri_too_long"
        elif len(self.headers) > MAX_HEADERS or (
            self._head_bytes > MAX_HEAD_BYTES
            and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES
        ):
            self._refusal = "headers_too_large"
        elif self._wants_upgrade() and (self._get_upgrade() == b"websocket"):
            self._refusal = "websocket_unsupported"
        elif self.parser.get_method() != b"CONNECT" and len(self.pipeline) < MAX_PIPELINED:
            return
        raise _Refused

    def _wants_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade())

    def _read_without_upgrade(self, rest: bytes) -> None:
        """As if nobody had asked for it (RFC 9110, 7.8). Java's client asks every server for h2c, and its parser here
        would take the body for another protocol: the same head without that wish goes into a new one.
        """
        kept = [pair for pair in self.headers if pair[0] not in UPGRADE_HEADERS]
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1", *(b": ".join(pair) for pair in kept)]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", b""]) + rest)

    def _refuse(self, code: str) -> None:
        """Answer without the app, unless an answer of the app's is under way; either way nothing more is read."""
        logger.info("refused before there was a request: %s", code)
        if not self._is_idle() and self._is_whole:
            self.cycle.keep_alive = False  # what came before is answered, and the connection ends with it
            self._is_deaf = True
            return
        if self._is_idle() or not (self.cycle.response_started or self.pipeline):
            self._ending.write(refusal(code, self.url.decode("latin-1")))
        if not self._is_idle():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.pipeline.clear()
        self._ending.lingers = True
        self._ending.close()


def guarded_protocol(connections: Connections, *, write_timeout_s: float) -> type[GuardedProtocol]:
    """For `uvicorn.Config(http=…)`, which makes the instances itself."""

    class ServerProtocol(GuardedProtocol):
        pass

    ServerProtocol.connections_of_server = connections
    ServerProtocol.write_timeout_s = write_timeout_s
    return ServerProtocol
