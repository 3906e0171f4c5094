"""From the bytes of a request to `ChatRequest`: what we act on is read, all else passes through unread."""

from __future__ import annotations

from typing import Annotated

import msgspec

from app.chat.model import ChatRequest
from app.chat.parameters import Object, check_parameters
from app.errors import InvalidRequest
from app.http.body import decode_object, read_field
from app.ids import decode_id
from app.llm.caching import NEVER
from app.model_calls import WISHES, cache_wish_of, wants_usage, wishes_of

MAX_STORES = 10
"""Stores in one question: each is one more partition scan in the same statement."""


class RetrievalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The `retrieval` extension."""

    max_results: Annotated[int, msgspec.Meta(ge=1, le=50)] = 12
    """Of 22 probes over the German handbook one had its passage in ninth place; 12 passages are 2,300 tokens."""

    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """What else a part holds is passed through; its kind of value is checked, as of the parameters."""

    type: str
    text: str = ""
    image_url: str | Object | None = None
    input_audio: Object | None = None
    file: Object | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[Object] | None = None

    @property
    def is_of_tool(self) -> bool:
        return self.role in {"tool", "function"} or bool(self.tool_calls)

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.type == "text")


_EXTENSIONS = frozenset({"vector_store_ids", "retrieval"}) | WISHES


def read_chat_request(body: bytes, deadline_s: float | None = None) -> ChatRequest:
    """Raises: InvalidRequest naming the field; NotFound for an id that cannot exist."""
    fields = decode_object(body)
    model = read_field(fields, "model", str)
    messages = read_field(fields, "messages", list[Message])
    check_parameters(fields)
    if not model:
        raise InvalidRequest("model is missing: GET /v1/models lists them", param="model", code="missing_field")
    if not messages:
        raise InvalidRequest("messages must hold at least one message", param="messages", code="missing_field")
    stores = read_field(fields, "vector_store_ids", list[str]) or []
    if len(stores) > MAX_STORES:
        raise InvalidRequest(f"at most {MAX_STORES} vector_store_ids", param="vector_store_ids")
    question = next((m.text for m in reversed(messages) if m.role == "user"), "").strip()
    if stores and not question:
        raise InvalidRequest("a question over documents needs a user message with text", param="messages")
    options = read_field(fields, "retrieval", RetrievalOptions) or RetrievalOptions()
    wish = cache_wish_of(fields)
    return ChatRequest(
        model=model,
        fields={name: value for name, value in fields.items() if name not in _EXTENSIONS},
        question=question,
        stream=read_field(fields, "stream", bool) or False,
        include_usage=wants_usage(fields),
        store_ids=tuple(decode_id("vs", store) for store in stores),
        max_results=options.max_results,
        score_threshold=options.score_threshold,
        # Documents change, and so does what tools find.
        cache=NEVER if stores or any(m.is_of_tool for m in messages) else wish,
        needs_model=_is_given(fields, "tools") or _asks_for_format(fields),
        wishes=wishes_of(fields),
        deadline_s=deadline_s,
        may_continue=read_field(fields, "x_wattos_seam", bool),
    )


def _is_given(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return bytes(fields.get(name, b"null")) not in {b"null", b"[]"}


class _Format(msgspec.Struct, frozen=True):
    type: str = "text"


def _asks_for_format(fields: dict[str, msgspec.Raw]) -> bool:
    wanted = read_field(fields, "response_format", _Format)
    return wanted is not None and wanted.type != "text"
