"""From the bytes of a request to `MessagesRequest`: what we act on is read, all else passes through unread.

What a content block or a tool holds is read where it is converted (`to_chat`): Anthropic's own models take more kinds
than any other, and say themselves what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from app.errors import InvalidRequest
from app.http.body import decode_object, read_field
from app.llm.caching import NEVER
from app.llm.transports.anthropic_wire import BETAS_FIELD
from app.messages.model import MessagesRequest
from app.model_calls import WISHES, cache_wish_of, wishes_of

BETA_HEADER = b"anthropic-beta"

MAX_BETAS_BYTES = 4096
"""Of the header: a name has 40 bytes at most, and no client turns on a hundred."""

_BETA = re.compile(r"[A-Za-z0-9._-]+")

_SAID = frozenset({"text", "image", "document", "thinking", "redacted_thinking"})
"""Blocks that are no tool's."""

Object = dict[str, msgspec.Raw]


class Typed(msgspec.Struct, frozen=True):
    """A content block, of which only the kind is read."""

    type: str


class Message(msgspec.Struct, frozen=True):
    """`system` within a conversation is newer than the field."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Typed]

    @property
    def is_of_tool(self) -> bool:
        """Results of tools, and calls of them, whose results follow."""
        return not isinstance(self.content, str) and any(block.type not in _SAID for block in self.content)


class Tool(msgspec.Struct, frozen=True):
    """`type` is `custom` or absent for the client's own; others are Anthropic's, whose schema its models know."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Object | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """`name` goes with `tool` alone."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True):
    """`budget_tokens` goes with `enabled`."""

    type: str
    budget_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None


class OutputConfig(msgspec.Struct, frozen=True):
    """How much effort goes into an answer, and which form it has."""

    effort: str | None = None
    format: Object | None = None


class Metadata(msgspec.Struct, frozen=True):
    """Of the client's own user."""

    user_id: str | None = None


TYPES: dict[str, Any] = {
    "max_tokens": Annotated[int, msgspec.Meta(ge=0)],
    "system": str | list[Typed],
    "tools": list[Tool],
    "tool_choice": ToolChoice,
    "stop_sequences": list[str],
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "metadata": Metadata,
    "thinking": Thinking,
    "output_config": OutputConfig,
}
"""https://docs.anthropic.com/en/api/messages; null is taken everywhere."""


def read_messages_request(
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
    deadline_s: float | None = None,
    *,
    is_count: bool = False,
) -> MessagesRequest:
    """`is_count`: for `count_tokens`, which has no `max_tokens`. Raises: InvalidRequest naming the field."""
    fields = decode_object(body)
    model = read_field(fields, "model", str)
    messages = read_field(fields, "messages", list[Message])
    for name in fields.keys() & TYPES.keys():
        read_field(fields, name, TYPES[name])
    if not model:
        raise InvalidRequest("model is missing: GET /v1/models lists them", param="model", code="missing_field")
    if not messages:
        raise InvalidRequest("messages must hold at least one message", param="messages", code="missing_field")
    if not is_count and bytes(fields.get("max_tokens", b"null")) == b"null":
        raise InvalidRequest("max_tokens is missing", param="max_tokens", code="missing_field")
    wish = cache_wish_of(fields)
    passed = {name: value for name, value in fields.items() if name not in WISHES}
    if betas := _betas(headers):
        passed[BETAS_FIELD] = msgspec.Raw(msgspec.json.encode(betas))
    return MessagesRequest(
        model=model,
        fields=passed,
        stream=(read_field(fields, "stream", bool) or False) and not is_count,
        wishes=wishes_of(fields),
        cache=NEVER if any(message.is_of_tool for message in messages) else wish,
        deadline_s=deadline_s,
    )


def _betas(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Names of beta features. Clients list them in one header, or in several."""
    value = b",".join(value for name, value in headers if name == BETA_HEADER)[:MAX_BETAS_BYTES]
    names = (name.strip() for name in value.decode("latin-1").split(","))
    return [name for name in names if _BETA.fullmatch(name)]
