"""How a connection ends: who is still sending hears the answer first, and who does not read is not waited for.

Closing a socket with unread bytes in it makes the kernel send a reset, which throws away the answer that is under way.
So the own half is closed first and what still comes is thrown away for a while: nginx's lingering close.
"""

from __future__ import annotations

import asyncio

LINGER_S = 2.0
"""For a client that goes on sending after its answer. nginx waits 5 s for a pause; ours only has to read the answer."""

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
        self.write = transport.write  # type: ignore[method-assign]  # a call less for each piece that is sent

    def is_closing(self) -> bool:
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
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
