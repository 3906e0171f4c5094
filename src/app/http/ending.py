"""How a connection ends: who is still sending hears the answer first, and who does not read is not waited for.

Closing a socket with unread bytes in it makes the kernel send a reset, which throws away the answer that is under way.
So the own half is closed first and what still comes is thrown away for a while: nginx's lingering close.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Data = bytes | bytearray | memoryview[Any]

LINGER_S = 2.0
"""For a client that goes on sending after its answer. nginx waits 5 s for a pause; ours only has to read the answer."""

SHORT_BYTES = 64 * 1024
"""What is longer is sent after its head rather than copied behind it."""

FLUSH_S = 30.0
"""For a client that does not read the rest of its answer."""


class Ending(asyncio.Transport):
    """A transport around that of the loop, as far as uvicorn uses one. `lingers`: the client may still be sending."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.lingers = False
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._head: Data = b""
        self._write = transport.write
        self.write = self._write  # type: ignore[method-assign]  # a call less for each piece that is sent

    def hold(self) -> None:
        """What is written next, a head, goes out with what follows in this round of the loop, else at its end: a system
        call less for each answer, a fortieth of a cache hit (measured)."""
        if not self._head:
            self.write = self._write_head  # type: ignore[method-assign]

    def is_closing(self) -> bool:
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._flush()
        if self.lingers and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._timer = self._loop.call_later(LINGER_S, self.abort)
        else:
            self._transport.close()
            self._timer = self._loop.call_later(FLUSH_S, self.abort)

    def abort(self) -> None:
        self._transport.abort()

    def done(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _write_head(self, data: Data) -> None:
        self._head = data
        self.write = self._write_behind_head  # type: ignore[method-assign]
        self._loop.call_soon(self._flush)

    def _write_behind_head(self, data: Data) -> None:
        head, self._head = self._head, b""
        self.write = self._write  # type: ignore[method-assign]
        if len(data) <= SHORT_BYTES:
            self._write(b"".join((head, data)))
        else:
            self._write(head)
            self._write(data)

    def _flush(self) -> None:
        if self._head:
            self._write_behind_head(b"")
