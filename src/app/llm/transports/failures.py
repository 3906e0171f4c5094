"""litellm's exceptions in our own words. Knows them by attribute of the module it is handed; imports nothing of it.

Connection refused surfaces at litellm as `InternalServerError` 500; a 429's `Retry-After` is in the response's headers.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from app.errors import (
    ContentRefused,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.llm.model import Target
from app.llm.transports.refusals import MISCONFIGURED, REFUSED, REJECTED, TOO_LONG, retry_after_of, shown, too_long
from plugins.contract.errors import WattosError

SAID_OF_OUR_SETTINGS = ("LLM Provider NOT provided", "Missing credentials")
"""litellm's words for a vendor in `model` that it does not know (with a 400), and for a missing key (with a 500)."""

ERROR_WITH_200 = "Error in response object"
"""litellm's words for an error that is no object, in an answer with status 200; it calls it a 422."""

READS_ANSWERS = frozenset({"transform_response", "async_transform_response", "convert_to_model_response_object"})
"""litellm's functions that read what a target answered: stumbling there is the target's fault."""

CHECKS_REQUESTS = "validate_chat_completion_user_messages"
"""litellm's function that refuses parts of messages that it does not know, with a bare `Exception`."""

TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException", "TimeoutError"})
"""OpenAI's (of which litellm's is one), httpx's and Python's own, by name: none of the packages is imported here."""

UNREACHED = frozenset({"ConnectError", "ClientConnectorError", "ReadError", "RemoteProtocolError"})
"""httpx's and aiohttp's, by name."""

_LITELLM_PREFIX = re.compile(r"^(?:litellm\.\w+:\s*)?(?:\w+Error:\s*)?(?:\w*Exception\s*-\s*)?")


@contextmanager
def translated(litellm: Any, target: Target, *, is_answering: bool = False) -> Generator[None]:
    """Whatever litellm raises inside leaves as an error of `app.errors`. Cancellation passes through.

    `is_answering`: the target has begun to answer, so nothing that goes wrong now is the request's fault.
    """
    try:
        yield
    except WattosError:
        raise
    except Exception as exc:
        raise _translate(litellm, target, exc, is_answering=is_answering) from exc


def _translate(litellm: Any, target: Target, exc: Exception, *, is_answering: bool) -> WattosError:
    status = getattr(exc, "status_code", None)
    retry_after_s = _retry_after_s(exc)
    body: Any = getattr(exc, "body", None)
    code = cast("dict[str, object]", body).get("code") if isinstance(body, dict) else None
    if code in TOO_LONG or isinstance(exc, litellm.ContextWindowExceededError):
        return too_long(target, status)
    if code in REFUSED or isinstance(exc, litellm.ContentPolicyViolationError):
        return ContentRefused(f"{target.id} refuses the content: {_own_words(exc)}", status=status or 400)
    if _is_timeout(exc):
        answered = getattr(_response(exc), "status_code", None)
        return UpstreamTimeout(f"{target.id} did not answer in time", status=answered, retry_after_s=retry_after_s)
    if isinstance(exc, litellm.RateLimitError):
        return UpstreamRateLimited(f"{target.id} asks for fewer calls", status=429, retry_after_s=retry_after_s)
    if ERROR_WITH_200 in str(exc):
        return UpstreamUnavailable(f"{target.id} answered with an error where an answer was promised")
    if (
        status in MISCONFIGURED
        or (status is not None and 300 <= status < 400)
        or any(said in str(exc) for said in SAID_OF_OUR_SETTINGS)
    ):
        return UpstreamMisconfigured(
            f"{target.id} refuses our key or does not know its model (status {status})", status=status
        )
    if status in REJECTED or isinstance(exc, litellm.BadRequestError):
        return UpstreamRejected(f"{target.id} rejects the request: {_own_words(exc)}", status=status or 400)
    if not is_answering and _is_local(litellm, exc):
        return UpstreamRejected(f"the request cannot be put into the form that {target.id} takes")
    if status is not None and status < 500:
        return UpstreamError(f"{target.id} answered with status {status}", status=status, retry_after_s=retry_after_s)
    answered = None if _was_not_reached(exc) else status
    return UpstreamUnavailable(
        f"{target.id} could not be reached, or failed", status=answered, retry_after_s=retry_after_s
    )


def _was_not_reached(exc: BaseException | None) -> bool:
    """litellm gives refused connections a status of 500."""
    while exc is not None:
        if UNREACHED & {kind.__name__ for kind in type(exc).__mro__}:
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _is_timeout(exc: BaseException | None) -> bool:
    """Wherever it was noticed: by litellm, OpenAI's SDK, httpx or the socket. Mid-stream litellm hides it in others."""
    while exc is not None:
        if TIMEOUTS & {kind.__name__ for kind in type(exc).__mro__}:
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _is_local(litellm: Any, exc: Exception) -> bool:
    """Whether litellm itself stumbled over the request, before anything was sent: that is no failure of the target."""
    root: BaseException = exc
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    own = isinstance(exc, litellm.APIConnectionError) or not hasattr(exc, "status_code")
    stumbled_in = {frame.f_code.co_name for frame, _ in traceback.walk_tb(root.__traceback__)}
    if own and CHECKS_REQUESTS in stumbled_in:
        return True
    if not (own and isinstance(root, TypeError | AttributeError | LookupError | ValueError)):
        return False
    return not stumbled_in & READS_ANSWERS


def _retry_after_s(exc: Exception) -> float | None:
    """Seconds, finite. Where litellm keeps the headers depends on vendor and error."""
    found: tuple[Any, ...] = (
        getattr(exc, "litellm_response_headers", None),
        getattr(_response(exc), "headers", None),
    )
    for headers in found:
        if (wait_s := retry_after_of(headers or {})) is not None:
            return wait_s
    return None


def _response(exc: Exception) -> Any:
    return getattr(exc, "response", None)


def _own_words(exc: Exception) -> str:
    """An upstream's message without addresses and keys, shortened; of litellm's own, without advice on its settings."""
    text = _LITELLM_PREFIX.sub("", str(getattr(exc, "message", ""))).partition(" To drop these")[0]
    return shown(text)
