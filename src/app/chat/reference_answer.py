"""Chat answers as the OpenAPI document tells of them: OpenAI's shapes with our extensions.

Nothing is encoded from these: a vendor's bytes pass through, with whatever else they hold.
https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from app.chat.citations import FileCitation
from app.chat.model import Degraded
from app.chat.reference import ToolCall
from app.grounding import RetrievalMode


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`annotations`: the citations, over documents."""

    role: Literal["assistant"]
    content: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    tool_calls: list[ToolCall] | UnsetType | None = UNSET
    annotations: list[FileCitation] | UnsetType | None = UNSET


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    finish_reason: str | UnsetType | None = UNSET


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """As the vendor counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """Ours. `retrieval`: how documents were searched; `degraded`: what is less than usual."""

    retrieval: RetrievalMode | UnsetType = UNSET
    degraded: Degraded | UnsetType | None = UNSET
    cost_nusd: int | UnsetType | None = UNSET
    saved_nusd: int | UnsetType | None = UNSET
    """Of an answer from the cache: what it cost when it was made."""


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    object: Literal["chat.completion"]
    usage: TokenUsage | UnsetType | None = UNSET
    x_wattos: Trail | UnsetType = UNSET


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a call; pieces of one have one `index`."""

    index: int
    id: str | UnsetType | None = UNSET
    function: dict[str, str | None] | UnsetType = UNSET


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What is added. `annotations` come on the chunk that finishes the choice."""

    role: Literal["assistant"] | UnsetType | None = UNSET
    content: str | UnsetType | None = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType | None = UNSET
    annotations: list[FileCitation] | UnsetType | None = UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of one of `n` answers."""

    index: int
    delta: Delta
    finish_reason: str | UnsetType | None = UNSET


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream. With `stream_options.include_usage` the last one has `usage` and no choices."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: Literal["chat.completion.chunk"]
    usage: TokenUsage | UnsetType | None = UNSET
    x_wattos: Trail | UnsetType = UNSET
