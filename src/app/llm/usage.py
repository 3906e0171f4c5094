"""Usage as vendors write it on OpenAI's wire, read into ours.

https://platform.openai.com/docs/api-reference/chat/object; DeepSeek and Anthropic behind OpenAI's wire have names of
their own for what their prompt caches did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.llm.model import Usage


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


_decoder = msgspec.json.Decoder(_WireUsage | None)


def usage_of(raw: bytes | msgspec.Raw) -> Usage | None:
    """None when the target said nothing, or nothing that can be read: no call has zero tokens going in."""
    try:
        return _of(_decoder.decode(raw))
    except (msgspec.DecodeError, RecursionError):
        return None


def usage_of_mapping(counted: Mapping[str, Any] | None) -> Usage | None:
    """The same of what is decoded already."""
    try:
        return _of(msgspec.convert(counted, _WireUsage | None))
    except msgspec.ValidationError:
        return None


def _of(wire: _WireUsage | None) -> Usage | None:
    if wire is None or not wire.prompt_tokens or wire.prompt_tokens < 0:
        return None
    prompt, completion = wire.prompt_tokens_details, wire.completion_tokens_details
    cached = wire.prompt_cache_hit_tokens or (prompt.cached_tokens if prompt else None) or 0
    written = wire.cache_creation_input_tokens or (prompt.cache_creation_tokens if prompt else None) or 0
    output = max(0, wire.completion_tokens or 0)
    cached = min(max(0, cached), wire.prompt_tokens)
    return Usage(
        input_tokens=wire.prompt_tokens,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=min(max(0, written), wire.prompt_tokens - cached),
        reasoning_tokens=min(max(0, (completion.reasoning_tokens if completion else None) or 0), output),
    )
