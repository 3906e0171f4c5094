"""How callers learn how their limits stand: headers on every answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from plugins.contract.limits import rate_headers
from plugins.security.limits.caller import Caller

if TYPE_CHECKING:
    from litestar.types import Message, Send


def telling(send: Send, caller: Caller, clock: Callable[[], float]) -> Send:
    """`send`, that adds `x-ratelimit-…` as they are when the answer begins: what it took is taken off."""

    def tell(message: Message) -> Awaitable[None]:  # no coroutine of its own: streams send often
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if not name.startswith(b"x-ratelimit-")]
            made = rate_headers(caller.states(clock()))
            message["headers"] = [*headers, *((name.encode(), value.encode()) for name, value in made.items())]
        return send(message)

    return tell
