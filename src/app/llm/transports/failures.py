"""litellm's exceptions in our own words. Knows them by attribute of the module it is handed; imports nothing of it.

Connection refused surfaces at litellm as `InternalServerError` 500; a 429's `Retry-After` is in the response's headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.errors import (
    ContextTooLong,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.llm.model import Target
from plugins.contract.errors import WattosError

MAX_MESSAGE_CHARS = 300
"""Of an upstream's own words in our error."""

_SECRETS = re.compile(r"(?:https?://\S+|\b(?:sk|key|Bearer)[-_ ][\w\-]{6,})", re.IGNORECASE)
_LITELLM_PREFIX = re.compile(r"^(?:litellm\.\w+:\s*)?(?:\w*Exception\s*-\s*)?")


@contextmanager
def translated(litellm: Any, target: Target) -> Iterator[None]:
    """Whatever litellm raises inside leaves as an error of `app.errors`. Cancellation passes through."""
    try:
        yield
    except WattosError:
        raise
    except Exception as exc:
        raise _translate(litellm, target, exc) from exc


def _translate(litellm: Any, target: Target, exc: Exception) -> WattosError:
    status = getattr(exc, "status_code", None)
    if isinstance(exc, litellm.ContextWindowExceededError):
        return ContextTooLong(f"the messages are longer than {target.id} takes", param="messages")
    if isinstance(exc, litellm.Timeout):
        return UpstreamTimeout(f"{target.id} did not answer in time")
    if isinstance(exc, litellm.RateLimitError):
        return UpstreamRateLimited(f"{target.id} asks for fewer calls", status=429, retry_after_s=_retry_after_s(exc))
    if isinstance(exc, litellm.AuthenticationError | litellm.PermissionDeniedError | litellm.NotFoundError):
        return UpstreamMisconfigured(f"{target.id} refuses our key or does not know its model (status {status})")
    if isinstance(exc, litellm.BadRequestError | litellm.UnprocessableEntityError):
        return UpstreamRejected(f"{target.id} rejects the request: {_own_words(exc)}", status=status or 400)
    if status is not None and status != 500:
        return UpstreamError(f"{target.id} answered with status {status}", status=status)
    return UpstreamUnavailable(f"{target.id} could not be reached, or failed", status=status)


def _retry_after_s(exc: Exception) -> float | None:
    headers = getattr(getattr(exc, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None  # absent, or an HTTP date, which vendors of models do not send


def _own_words(exc: Exception) -> str:
    """An upstream's message without addresses and keys, shortened."""
    text = _LITELLM_PREFIX.sub("", str(getattr(exc, "message", "")))
    return _SECRETS.sub("…", text)[:MAX_MESSAGE_CHARS]
