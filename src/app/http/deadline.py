"""How long a caller waits for a model's answer, as it says itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from app.errors import InvalidRequest

HEADER = b"x-request-timeout-ms"

MAX_TIMEOUT_MS = 24 * 3600 * 1000
"""A day: longer than any target may take."""


def deadline_of(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """By the event loop's clock; None where nobody said. Raises: InvalidRequest."""
    for name, value in headers:
        if name == HEADER:
            if not (value.isdigit() and 0 < int(value[:10]) <= MAX_TIMEOUT_MS and len(value) <= 10):
                raise InvalidRequest(
                    f"{HEADER.decode()} must be a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS}",
                    param=HEADER.decode(),
                )
            return asyncio.get_running_loop().time() + int(value) / 1000
    return None
