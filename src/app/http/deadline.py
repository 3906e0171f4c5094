"""How long a caller waits for a model's answer, as it says itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.errors import InvalidRequest

if TYPE_CHECKING:
    from litestar.types import HTTPScope

HEADER = b"x-request-timeout-ms"

MAX_TIMEOUT_MS = 24 * 3600 * 1000
"""A day: longer than any target may take."""


DEADLINE_S = "deadline_s"
"""Key in `scope["state"]`: a request has one deadline, whoever asks for it and when."""


def deadline_of(scope: HTTPScope) -> float | None:
    """By the event loop's clock, from when it is first asked for, the body read; None where nobody said. Raises:
    InvalidRequest."""
    for name, value in scope["headers"]:
        if name == HEADER:
            if not (value.isdigit() and 0 < int(value[:10]) <= MAX_TIMEOUT_MS and len(value) <= 10):
                raise InvalidRequest(
                    f"{HEADER.decode()} must be a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS}",
                    param=HEADER.decode(),
                )
            deadline_s: float = scope["state"].setdefault(
                DEADLINE_S, asyncio.get_running_loop().time() + int(value) / 1000
            )
            return deadline_s
    return None
