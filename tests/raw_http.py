"""HTTP as bytes on a socket: what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

READ_TIMEOUT_S = 15.0


class Answer(msgspec.Struct, frozen=True):
    """One response. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One socket to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Whoever has closed on us is no error here: what counts is what it says."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self, *, method: str = "GET") -> Answer:
        """The next response, interim ones included. Raises: EOFError when the connection ends before one."""
        async with asyncio.timeout(READ_TIMEOUT_S):
            try:
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as exc:
                raise EOFError("the connection ended without an answer") from exc
            headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = b"" if method == "HEAD" else await self._body(headers)
        return Answer(int(head[0].split()[1]), headers, body)

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readline()
        return body

    async def ended(self) -> bytes:
        """Wait until the server closes. Returns: what came before."""
        async with asyncio.timeout(READ_TIMEOUT_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.close()


@contextlib.asynccontextmanager
async def connected(port: int, *, n_kept_bytes: int | None = None) -> AsyncIterator[Connection]:
    """A connection. `n_kept_bytes`: what the system keeps of what is not read; by default it may grow to 33 MB."""
    with socket.socket() as sock:
        sock.setblocking(False)
        if n_kept_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, n_kept_bytes)  # before the connection agrees on it
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock.dup())
    connection = Connection(reader, writer)
    try:
        yield connection
    finally:
        connection.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(port: int, data: bytes, *, method: str = "GET") -> Answer:
    """Send these bytes on a connection of their own. Returns: the first response."""
    async with connected(port) as connection:
        await connection.send(data)
        return await connection.answer(method=method)
