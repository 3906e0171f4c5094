"""What Anthropic's wire is made of, for both directions: names, usage, errors.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from app.errors import ContentRefused, UpstreamMisconfigured
from app.llm.model import Target, Usage
from app.llm.transports.refusals import Said, refusal, shown
from plugins.contract.errors import WattosError

VERSION = "2023-06-01"
"""Of the wire: there is no later one. https://docs.anthropic.com/en/api/versioning"""

BETAS_FIELD = "anthropic_beta"
"""Where a request names beta features in its body, as on Bedrock; Anthropic itself wants them in a header."""

STATUS_OF: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""`error.type`, where no status says it. https://docs.anthropic.com/en/api/errors"""

_SAYS_REFUSED = re.compile(r"content filtering policy", re.IGNORECASE)
_SAYS_NO_FUNDS = re.compile(r"credit balance is too low", re.IGNORECASE)
"""Both come as a 400 `invalid_request_error`."""


UNSIGNED = re.compile(rb'"signature"\s*:\s*""')
"""A thought of another vendor's model, which this wire had to write with a signature. Anthropic refuses those."""


class WireUsage(msgspec.Struct):
    """`input_tokens` without those that the cache read or wrote. In a stream later counts replace earlier ones."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: dict[str, int | None] | None = None

    def updated(self, later: WireUsage) -> WireUsage:
        mine, newer = msgspec.structs.asdict(self), msgspec.structs.asdict(later)
        return WireUsage(**{name: mine[name] if newer[name] is None else newer[name] for name in mine})

    @property
    def usage(self) -> Usage | None:
        """None when nothing was counted: no call has zero tokens going in."""
        read = max(0, self.cache_read_input_tokens or 0)
        written = max(0, self.cache_creation_input_tokens or 0)
        input_tokens = max(0, self.input_tokens or 0) + read + written
        output_tokens = max(0, self.output_tokens or 0)
        thought = (self.output_tokens_details or {}).get("thinking_tokens") or 0
        if not input_tokens:
            return None
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=min(max(0, thought), output_tokens),
        )


def shown_usage(usage: Usage) -> dict[str, object]:
    """As the wire writes it."""
    shown: dict[str, object] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }
    if usage.reasoning_tokens:
        shown["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return shown


def refused(target: Target, status: int, headers: Mapping[str, str], said: Said) -> WattosError:
    """The error to raise for one of Anthropic's."""
    words = str(said.message or "")
    if status == 400 and _SAYS_NO_FUNDS.search(words):
        return UpstreamMisconfigured(f"{target.id} has no funds left", status=status)
    if status == 400 and _SAYS_REFUSED.search(words):
        return ContentRefused(f"{target.id} refuses the content: {shown(words)}", status=status)
    return refusal(target, status, headers, said)


def refused_in_answer(target: Target, said: Said) -> WattosError:
    """The same for an error where an answer was promised: with status 200, or within a stream."""
    return refused(target, STATUS_OF.get(str(said.type), 502), {}, said)


class _Turn(msgspec.Struct):
    role: msgspec.Raw
    content: str | list[dict[str, msgspec.Raw]]


def without_unsigned(messages: msgspec.Raw) -> msgspec.Raw:
    """The same, unless another target of the alias thought in an earlier turn: its thoughts are left out."""
    if not UNSIGNED.search(bytes(messages)):
        return messages
    try:
        turns = msgspec.json.decode(messages, type=list[_Turn])
    except (msgspec.DecodeError, RecursionError):
        return messages  # the vendor says what is wrong with it
    kept: list[_Turn] = []
    for turn in turns:
        if isinstance(turn.content, str):
            kept.append(turn)
        elif blocks := [block for block in turn.content if bytes(block.get("signature", b"null")) != b'""']:
            kept.append(_Turn(role=turn.role, content=blocks))
    return msgspec.Raw(msgspec.json.encode(kept))
