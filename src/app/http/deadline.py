"""How long a caller waits for a model's answer, as it says itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.errors import InvalidRequest
from plugins.contract.requests import DEADLINE_S, MAX_TIMEOUT_MS, TIMEOUT_HEADER, read_timeout_ms

if TYPE_CHECKING:
    from litestar.types import HTTPScope


def deadline_of(scope: HTTPScope) -> float | None:
    """By the event loop's clock, from when it is first asked for, the body read; None where nobody said. Raises:
    InvalidRequest."""
    for name, value in scope["headers"]:
        if name == TIMEOUT_HEADER:
            timeout_ms = read_timeout_ms(value)
            if timeout_ms is None:
                raise InvalidRequest(
                    f"{TIMEOUT_HEADER.decode()} must be a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS}",
                    param=TIMEOUT_HEADER.decode(),
                )
            deadline_s: float = scope["state"].setdefault(
                DEADLINE_S, asyncio.get_running_loop().time() + timeout_ms / 1000
            )
            return deadline_s
    return None
