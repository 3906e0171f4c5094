"""Anthropic's wire as the OpenAPI document tells of it. No request is decoded into these: they pass through."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.llm.caching import CacheWish
from app.messages.schemas import Metadata, Thinking, ToolChoice


class ContentBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Of Anthropic's kinds: `text`, `image`, `document`, `tool_use`, `tool_result` …, each with fields of its own."""

    type: str


class MessageIn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class ToolIn(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call; `input_schema` is a JSON Schema. Anthropic's own tools have a `type`, and
    only its models take them."""

    name: str | None = None
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None
    strict: bool | None = None


class MessageCount(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's request, of which the tokens are counted."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[MessageIn], Meta(min_length=1)]
    system: str | list[ContentBlock] | None = None
    tools: list[ToolIn] | None = None


class MessageCreate(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's request; `fallbacks`, `disable_fallbacks` and `cache` are ours. Other fields reach Anthropic's own
    models."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[MessageIn], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=0)]
    system: str | list[ContentBlock] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[ToolIn] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: dict[str, Any] | None = None
    metadata: Metadata | None = None
    fallbacks: list[str] | None = None
    disable_fallbacks: bool | None = None
    cache: CacheWish | None = None


_MESSAGES = [{"role": "user", "content": "What is a vector store?"}]
EXAMPLES = {"plain": {"model": "wattos-local", "max_tokens": 256, "messages": _MESSAGES}}
COUNT_EXAMPLES = {"plain": {"model": "wattos-local", "messages": _MESSAGES}}


class MessageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """`input_tokens` without those of the vendor's prompt cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | UnsetType | None = UNSET
    cache_creation_input_tokens: int | UnsetType | None = UNSET


class MessageOut(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | None
    usage: MessageUsage
    type: Literal["message"]
    role: Literal["assistant"]
    stop_sequence: str | None = None


class MessageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream, named by its `type`."""

    type: str


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """Input tokens: the vendor's own count where it has one, else an estimate."""

    input_tokens: int
