"""One connection to a Valkey: the library speaks, we dial. It is made, asked, and aborted at the slightest doubt."""

# pyright: reportUnknownMemberType=false
# The library's own methods lack some types.

from __future__ import annotations

import asyncio
import ipaddress
import select
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from valkey.asyncio.connection import AbstractConnection

from plugins.cache.address import Address

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""IP addresses of a host, best first. Raises: OSError."""


async def resolved(host: str, port: int) -> Sequence[str]:
    """By the operating system, in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Dialler:
    """Opens connections to one address. Names are looked up for each, so that a failover by DNS is noticed."""

    def __init__(self, address: Address, resolve: Resolve = resolved) -> None:
        self._address = address
        self._resolve = resolve
        self._resolving: asyncio.Task[Sequence[str]] | None = None

    async def dial(self) -> Streams:
        """Raises: OSError."""
        address = self._address
        if address.path:
            return await asyncio.open_unix_connection(address.path)
        failure = OSError("the name has no address")
        for host in await self._hosts():
            try:
                return await asyncio.open_connection(
                    host, address.port, ssl=address.tls, server_hostname=address.host if address.tls else None
                )
            except OSError as exc:
                failure = exc
        raise failure

    async def close(self) -> None:
        """Give up a look-up that is on."""
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.gather(self._resolving, return_exceptions=True)

    async def _hosts(self) -> Sequence[str]:
        """One look-up at a time, for all who wait: a thread that hangs in it cannot be ended, and there are few."""
        if _is_ip(self._address.host):
            return (self._address.host,)
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.create_task(self._looked_up(), name="cache-valkey-look-up")
            self._resolving.add_done_callback(_noticed)
        return await asyncio.shield(self._resolving)

    async def _looked_up(self) -> Sequence[str]:
        try:
            return await self._resolve(self._address.host, self._address.port)
        except asyncio.CancelledError:  # by `close` alone: those who wait for it are not cancelled themselves
            raise OSError("given up") from None


class ValkeyConnection(AbstractConnection):
    """Without time-outs and retries of its own: whoever asks has a deadline."""

    def __init__(self, dial: Callable[[], Awaitable[Streams]], address: Address) -> None:
        super().__init__(
            username=address.username,
            password=address.password,
            db=address.database,
            socket_timeout=None,
            lib_name=None,  # two commands less at each connection, and none that an ACL may refuse
            lib_version=None,
        )
        self._dial = dial
        self._transport: asyncio.WriteTransport | None = None

    @property
    def is_usable(self) -> bool:
        """Connected, not ended by the other side, and with nothing in it that nobody asked for."""
        if self._reader is None or self._transport is None or self._transport.is_closing() or self._reader.at_eof():
            return False
        # What the loop has not seen yet, too: else the first call after a restart would fail. (2 µs)
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not waiting.poll(0) and bool(self._socket_is_empty())  # type: ignore[no-untyped-call]  # the library's

    async def open(self) -> None:
        """Signed in and at its database; nothing to do for one that is open."""
        await self.connect()  # type: ignore[no-untyped-call]  # the library's

    async def ask(self, *words: str | bytes | int) -> object:
        """One command and its reply: texts as bytes. After anything but a reply the connection must be aborted."""
        await self.send_command(*words)
        return cast("object", await self.read_response())

    def abort(self) -> None:
        """Gone at once: a TLS farewell to a server that is frozen would take 30 s."""
        if self._transport is not None:
            self._transport.abort()
        self._parser.on_disconnect()  # type: ignore[no-untyped-call]  # the library's
        self._reader = self._writer = self._transport = None

    async def _connect(self) -> None:
        self._reader, self._writer = await self._dial()
        self._transport = self._writer.transport

    def _host_error(self) -> str:
        return "Valkey"

    def repr_pieces(self) -> list[tuple[str, str]]:  # pyright: ignore[reportIncompatibleMethodOverride]  # untyped
        return []


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _noticed(task: asyncio.Task[Sequence[str]]) -> None:
    """Its failure is known, even if all who waited for it are gone."""
    if not task.cancelled():
        task.exception()
