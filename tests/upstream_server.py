"""The socket side of the upstream: a server in a thread of its own that records requests and runs scripts."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

WAIT_S = 10.0
"""Longest that a test waits for the upstream to see something."""


class Received(msgspec.Struct, kw_only=True, eq=False):
    """One request. `left_at_s` (monotonic) is set when the caller closed the connection before it was answered."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    at_s: float
    left_at_s: float | None = None
    answered: bool = False


Script = Callable[["Exchange"], Awaitable[None]]
"""Answers one exchange; returning closes the connection, raising ConnectionResetError cuts it."""


class CallerLeft(ConnectionError):
    """The caller closed the connection while it was being answered."""


class Exchange:
    """One request on its connection, and the means to answer it."""

    def __init__(self, upstream: Upstream, received: Received, writer: asyncio.StreamWriter) -> None:
        self.upstream = upstream
        self.received = received
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            raise CallerLeft from None

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Status", *(f"{k}: {v}" for k, v in headers.items()), "connection: close", "", ""]
        await self.send("\r\n".join(lines).encode())

    async def json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        await self.text(status, json.dumps(body), "application/json", headers)

    async def text(self, status: int, text: str, kind: str, headers: Mapping[str, str] | None = None) -> None:
        data = text.encode()
        await self.head(status, {"content-type": kind, "content-length": str(len(data)), **(headers or {})})
        await self.send(data)
        self.received.answered = True

    async def event(self, body: object) -> None:
        """One SSE event; whoever streams sends a head with `text/event-stream` first."""
        data = body if isinstance(body, str) else json.dumps(body)
        await self.send(f"data: {data}\n\n".encode())


class Upstream:
    """The vendor: scripts in, records out. Everything public may be called from any thread."""

    def __init__(self, default: Script) -> None:
        """`default`: for models without a script of their own."""
        self._default = default
        self.requests: list[Received] = []
        self._scripts: dict[str, list[Script]] = {}
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Event()
        self._changed = threading.Condition()
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """An `api_base`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def on(self, model: str, *scripts: Script) -> None:
        """What requests for `model` get, one script each; the last one stays."""
        self._scripts[model] = list(scripts)

    def to(self, model: str) -> list[Received]:
        """The requests that named `model`."""
        return [one for one in self.requests if one.body.get("model") == model]

    def reset(self) -> None:
        """Forget scripts and records, and close the gate."""
        self.requests.clear()
        self._scripts.clear()
        self._loop.call_soon_threadsafe(self._gate.clear)

    def release(self) -> None:
        """Let all who wait at the gate go on."""
        self._loop.call_soon_threadsafe(self._gate.set)

    async def at_gate(self) -> None:
        """For scripts: wait for `release`."""
        await self._gate.wait()

    def wait_until(self, seen: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        """Raises: AssertionError when `seen` does not come true in time."""
        with self._changed:
            assert self._changed.wait_for(seen, timeout_s), f"the upstream did not see it within {timeout_s} s"

    def start(self) -> None:
        started = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._listen())
            started.set()
            self._loop.run_forever()
            server = self._server
            server.close()
            for task in self._running:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._running, return_exceptions=True))
            self._loop.run_until_complete(server.wait_closed())
            self._loop.close()

        self._thread = threading.Thread(target=run, name="upstream", daemon=True)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)

    def refuse(self) -> None:
        """Nobody listens from now on; what is being answered goes on."""
        self._loop.call_soon_threadsafe(self._server.close)

    def accept(self) -> None:
        """Listens again, at the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(WAIT_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            received = await _read(reader)
            if received is not None:
                with self._changed:
                    self.requests.append(received)
                    self._changed.notify_all()
                await self._answer(received, reader, writer)
        except ConnectionError:
            pass
        finally:
            self._running.discard(task)
            writer.close()

    async def _answer(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._script(received)
        answering = asyncio.ensure_future(script(Exchange(self, received, writer)))
        leaving = asyncio.ensure_future(_left(reader))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                try:
                    answering.result()
                except ConnectionResetError:
                    _cut(writer)
                except CallerLeft:
                    self._left(received)
            elif not received.answered:
                self._left(received)
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    def _left(self, received: Received) -> None:
        with self._changed:
            received.left_at_s = time.monotonic()
            self._changed.notify_all()

    def _script(self, received: Received) -> Script:
        scripts = self._scripts.get(received.body.get("model", ""), [])
        if not scripts:
            return self._default
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = head[0].split()
    return Received(
        method=method, path=path, headers=headers, body=json.loads(body) if body else {}, at_s=time.monotonic()
    )


async def _left(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass


def _cut(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: what a killed process' host sends."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):  # already closed, because the caller left first
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()
