"""The types of OpenAI's chat parameters: a wrong one is the client's mistake, and no target should be blamed for it.

What values a model takes is the model's business; unknown parameters pass through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.errors import InvalidRequest

Object = dict[str, msgspec.Raw]

TYPES: Mapping[str, Any] = {
    "temperature": float,
    "top_p": float,
    "n": int,
    "stop": str | list[str],
    "max_tokens": int,
    "max_completion_tokens": int,
    "presence_penalty": float,
    "frequency_penalty": float,
    "logit_bias": dict[str, float],
    "logprobs": bool,
    "top_logprobs": int,
    "user": str,
    "seed": int,
    "response_format": Object,
    "tools": list[Object],
    "tool_choice": str | Object,
    "parallel_tool_calls": bool,
    "functions": list[Object],
    "function_call": str | Object,
    "reasoning_effort": str,
    "modalities": list[str],
    "audio": Object,
    "prediction": Object,
    "service_tier": str,
    "verbosity": str,
    "web_search_options": Object,
}
"""https://platform.openai.com/docs/api-reference/chat/create; null is taken everywhere."""

_DECODERS = {name: msgspec.json.Decoder(kind | None) for name, kind in TYPES.items()}


def check_parameters(fields: Mapping[str, msgspec.Raw]) -> None:
    """Raises: InvalidRequest naming the parameter."""
    for name in fields.keys() & _DECODERS.keys():
        try:
            _DECODERS[name].decode(fields[name])
        except (msgspec.ValidationError, RecursionError) as exc:
            raise InvalidRequest(f"{name}: {exc}", param=name) from None
