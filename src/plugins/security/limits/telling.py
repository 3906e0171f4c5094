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
            headers = [pair for pair in message["headers"] if not pair[0].startswith(b"x-ratelimit-")]
            for name, value in rate_headers(caller.states(clock())).items():
                headers.append((name.encode(), value.encode()))
            message["headers"] = headers
        return send(message)

    return tell
