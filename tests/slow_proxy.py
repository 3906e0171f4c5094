"""A TCP proxy on 127.0.0.1 that holds or delays replies, or resets connections, when a test says so."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server import free_port


class SlowProxy:
    """Passes bytes on to a server, and holds what comes back while it is told to. `delay_s`: before each reply."""

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self.let_replies_through = asyncio.Event()
        self.let_replies_through.set()
        self.held = asyncio.Event()
        self.n_held = 0
        self.delay_s = 0.0
        self._server_port = server_port
        self._writers: list[asyncio.StreamWriter] = []
        self._relays: set[asyncio.Task[object]] = set()

    async def reset_all(self) -> None:
        """Ends all connections with RST, and returns once the loop has heard of it."""
        for writer in self._writers:
            reset = struct.pack("ii", 1, 0)  # linger for 0 s
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
        self._writers.clear()
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Returns once nothing is relayed any more."""
        self.let_replies_through.set()
        for writer in self._writers:
            writer.transport.abort()
        if self._relays:
            await asyncio.wait(self._relays)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relaying = asyncio.current_task()
        assert relaying is not None
        self._relays.add(relaying)
        relaying.add_done_callback(self._relays.discard)
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers.append(writer)

        async def forth() -> None:
            while data := await reader.read(65_536):
                back.write(data)

        async def hither() -> None:
            while data := await there.read(65_536):
                if not self.let_replies_through.is_set():
                    self.n_held += 1
                    self.held.set()
                    await self.let_replies_through.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)

        ways = [asyncio.create_task(way) for way in (forth(), hither())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()
            writer.transport.abort()


@asynccontextmanager
async def slow_proxy(server_port: int) -> AsyncIterator[SlowProxy]:
    proxy = SlowProxy(server_port)
    listener = await asyncio.start_server(proxy.relay, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.end()
        await listener.wait_closed()
