"""What a vendor's own refusal means: HTTP status, headers and error body → an error of `app.errors`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import msgspec

from app.errors import (
    ContentRefused,
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

REJECTED = frozenset({400, 413, 415, 422})
"""The request itself is wrong."""

MISCONFIGURED = frozenset({401, 402, 403, 404, 405})
"""Key, funds, model or address are: the operator's to mend."""

TIMED_OUT = frozenset({408, 504})
"""By the target's own word, or its gateway's."""

TOO_LONG = frozenset({"context_length_exceeded", "string_above_max_length"})
"""OpenAI's codes."""

SAYS_TOO_LONG = re.compile(
    r"maximum context length|context window|prompt is too long|input is too long|exceed\w* context limit", re.IGNORECASE
)
"""Words of OpenAI, vLLM, Anthropic and Bedrock, where no code says it."""

REFUSED = frozenset({"content_policy_violation", "content_filter", "moderation_blocked"})
"""OpenAI's and Azure's codes."""

_SECRETS = re.compile(r"(?:https?://\S+|\b(?:sk|key|Bearer)[-_ ][\w\-]{6,})", re.IGNORECASE)


class Said(msgspec.Struct):
    """The part of an error object that is read; vendors write numbers where OpenAI has words."""

    message: object = ""
    type: object = None
    code: object = None


class _Enveloped(msgspec.Struct):
    error: Said | str | None = None
    message: object = ""
    """Where some servers put it without an envelope."""


def said_in(body: bytes) -> Said:
    """What an error body says; nothing, for a page of HTML."""
    try:
        found = msgspec.json.decode(body, type=_Enveloped)
    except (msgspec.DecodeError, RecursionError):
        return Said()
    if isinstance(found.error, Said):
        return found.error
    return Said(message=found.error or found.message)


def refusal(target: Target, status: int, headers: Mapping[str, str], said: Said) -> WattosError:
    """The error to raise. 3xx counts as a wrong address: nobody is sent elsewhere with our key."""
    code, words = str(said.code or said.type or ""), str(said.message or "")
    retry_after_s = retry_after_of(headers)
    if status in REJECTED and (code in TOO_LONG or SAYS_TOO_LONG.search(words)):
        return too_long(target, status)
    if status in REJECTED and code in REFUSED:
        return ContentRefused(f"{target.id} refuses the content: {shown(words)}", status=status)
    if status == 429:
        return UpstreamRateLimited(f"{target.id} asks for fewer calls", status=429, retry_after_s=retry_after_s)
    if status in MISCONFIGURED or 300 <= status < 400:
        return UpstreamMisconfigured(
            f"{target.id} refuses our key or does not know its model (status {status})", status=status
        )
    if status in REJECTED:
        return UpstreamRejected(f"{target.id} rejects the request: {shown(words)}", status=status)
    if status in TIMED_OUT:
        return UpstreamTimeout(f"{target.id} did not answer in time", status=status, retry_after_s=retry_after_s)
    if status < 500:
        return UpstreamError(f"{target.id} answered with status {status}", status=status, retry_after_s=retry_after_s)
    return UpstreamUnavailable(
        f"{target.id} could not be reached, or failed", status=status, retry_after_s=retry_after_s
    )


def too_long(target: Target, status: int | None) -> ContextTooLong:
    exc = ContextTooLong(f"the messages are longer than {target.id} takes", param="messages")
    exc.status = status
    return exc


def error_in_answer(target: Target, raw: bytes) -> WattosError:
    """An error where an answer was promised, with status 200 or within a stream: by the status that it names itself."""
    try:
        said = msgspec.json.decode(raw, type=Said | str)
    except (msgspec.DecodeError, RecursionError):
        said = Said()
    said = Said(message=said) if isinstance(said, str) else said
    status = said.code if isinstance(said.code, int) and 400 <= said.code < 600 else 502
    return refusal(target, status, {}, said)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds, finite and not negative; an HTTP date, which vendors of models do not send, is not read."""
    try:
        wait_s = float(headers["retry-after"])
    except (KeyError, TypeError, ValueError):
        return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None


def shown(words: str) -> str:
    """An upstream's message without addresses and keys, shortened."""
    return _SECRETS.sub("…", words)[:MAX_MESSAGE_CHARS]
