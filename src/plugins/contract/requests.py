"""What the app and plugins both know of a request: a header, and keys of its scope."""

from __future__ import annotations

from typing import Final

TIMEOUT_HEADER: Final = b"x-request-timeout-ms"
"""How long its caller waits for a model's answer."""

MAX_TIMEOUT_MS: Final = 24 * 3600 * 1000
"""A day: longer than any target may take."""

DEADLINE_S: Final = "deadline_s"
"""Key in `scope["state"]`: a request has one deadline, by the event loop's clock, whoever asks for it and when."""

DEPARTURE = "wattos.departure"
"""Key in the scope where the connection's departure stands, behind our own server."""

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for it: only the request log ever sees it."""

_MAX_DIGITS: Final = len(str(MAX_TIMEOUT_MS)) + 2


def read_timeout_ms(value: bytes) -> int | None:
    """Of TIMEOUT_HEADER. None: it cannot be read."""
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        return None
    timeout_ms = int(value)
    return timeout_ms if 0 < timeout_ms <= MAX_TIMEOUT_MS else None
