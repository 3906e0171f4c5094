"""From the bytes of a request to `CompletionRequest`, and the wire as the OpenAPI document tells of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.completions.model import CompletionRequest, Prompt
from app.errors import InvalidRequest
from app.http.body import decode_object, read_field
from app.llm.caching import CacheWish
from app.model_calls import WISHES, StreamOptions, cache_wish_of, wants_usage, wishes_of

_TYPES: dict[str, Any] = {
    "max_tokens": int,
    "temperature": float,
    "top_p": float,
    "n": int,
    "best_of": int,
    "logprobs": int,
    "echo": bool,
    "suffix": str,
    "stop": str | list[str],
    "presence_penalty": float,
    "frequency_penalty": float,
    "logit_bias": dict[str, float],
    "user": str,
    "seed": int,
}
"""https://platform.openai.com/docs/api-reference/completions/create; null is taken everywhere."""


def read_completion_request(body: bytes, deadline_s: float | None = None) -> CompletionRequest:
    """Raises: InvalidRequest naming the field."""
    fields = decode_object(body)
    model = read_field(fields, "model", str)
    prompt = read_field(fields, "prompt", Prompt)  # type: ignore[arg-type]  # a union is no type to mypy
    for name in fields.keys() & _TYPES.keys():
        read_field(fields, name, _TYPES[name])
    if not model:
        raise InvalidRequest("model is missing: GET /v1/models lists them", param="model", code="missing_field")
    if prompt is None or prompt == []:
        raise InvalidRequest("prompt is missing: a text", param="prompt", code="missing_field")
    return CompletionRequest(
        model=model,
        fields={name: value for name, value in fields.items() if name not in WISHES},
        stream=read_field(fields, "stream", bool) or False,
        include_usage=wants_usage(fields),
        wishes=wishes_of(fields),
        cache=cache_wish_of(fields),
        deadline_s=deadline_s,
    )


class CompletionCreate(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's request; `fallbacks`, `disable_fallbacks`, `cache` are ours. A chat model takes one text as prompt."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | Annotated[list[str], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    best_of: int | None = None
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    seed: int | None = None
    fallbacks: list[str] | None = None
    disable_fallbacks: bool | None = None
    cache: CacheWish | None = None


EXAMPLES = {"plain": {"model": "wattos-local", "prompt": "The capital of France is", "max_tokens": 8}}


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of `n` texts, or in a stream a piece of one."""

    index: int
    text: str
    logprobs: dict[str, Any] | UnsetType | None = UNSET
    finish_reason: str | UnsetType | None = UNSET


class CompletionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """As the vendor counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TextCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or one event of a stream."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    object: Literal["text_completion"]
    usage: CompletionUsage | UnsetType | None = UNSET
