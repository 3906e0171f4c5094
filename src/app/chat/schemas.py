"""From the bytes of a request to `ChatRequest`: what we act on is read, all else passes through unread."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from app.chat.model import CachePolicy, ChatRequest
from app.chat.parameters import Object, check_parameters
from app.errors import InvalidRequest
from app.http.body import decode_object
from app.ids import decode_id
from app.llm.routing import NO_WISHES, Wishes

T = TypeVar("T")

MAX_STORES = 10
"""Stores in one question: each is one more partition scan in the same statement."""


MAX_FALLBACKS = 10
"""Aliases in one request: each may be asked, one after the other."""


class RetrievalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The `retrieval` extension."""

    max_results: Annotated[int, msgspec.Meta(ge=1, le=50)] = 12
    """Of 22 probes over the German handbook one had its passage in ninth place; 12 passages are 2,300 tokens."""

    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool = False


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
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.type == "text")


_EXTENSIONS = ("vector_store_ids", "retrieval", "cache", "fallbacks", "disable_fallbacks", "x_wattos_seam")


def read_chat_request(body: bytes, deadline_s: float | None = None) -> ChatRequest:
    """Raises: InvalidRequest naming the field; NotFound for an id that cannot exist."""
    fields = decode_object(body)
    model = _read(fields, "model", str)
    messages = _read(fields, "messages", list[Message])
    check_parameters(fields)
    if not model:
        raise InvalidRequest("model is missing: GET /v1/models lists them", param="model", code="missing_field")
    if not messages:
        raise InvalidRequest("messages must hold at least one message", param="messages", code="missing_field")
    stores = _read(fields, "vector_store_ids", list[str]) or []
    if len(stores) > MAX_STORES:
        raise InvalidRequest(f"at most {MAX_STORES} vector_store_ids", param="vector_store_ids")
    question = next((m.text for m in reversed(messages) if m.role == "user"), "").strip()
    if stores and not question:
        raise InvalidRequest("a question over documents needs a user message with text", param="messages")
    options = _read(fields, "retrieval", RetrievalOptions) or RetrievalOptions()
    stream_options = _read(fields, "stream_options", StreamOptions) or StreamOptions()
    return ChatRequest(
        model=model,
        fields={name: value for name, value in fields.items() if name not in _EXTENSIONS},
        question=question,
        stream=_read(fields, "stream", bool) or False,
        include_usage=stream_options.include_usage,
        store_ids=tuple(decode_id("vs", store) for store in stores),
        max_results=options.max_results,
        score_threshold=options.score_threshold,
        cache=_read(fields, "cache", CachePolicy) or CachePolicy(),
        needs_model=_is_given(fields, "tools") or _asks_for_format(fields),
        wishes=_wishes(fields),
        deadline_s=deadline_s,
        may_continue=_read(fields, "x_wattos_seam", bool),
    )


def _read(fields: dict[str, msgspec.Raw], name: str, kind: type[T]) -> T | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind | None)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise InvalidRequest(f"{name}: {exc}", param=name) from None


class _Fallback(msgspec.Struct, frozen=True):
    """LiteLLM's clients send objects with `model`, too."""

    model: str


def _wishes(fields: dict[str, msgspec.Raw]) -> Wishes:
    if "fallbacks" not in fields and "disable_fallbacks" not in fields:
        return NO_WISHES
    given = _read(fields, "fallbacks", list[str | _Fallback])
    names = None if given is None else tuple(one if isinstance(one, str) else one.model for one in given)
    if names and len(names) > MAX_FALLBACKS:
        raise InvalidRequest(f"at most {MAX_FALLBACKS} fallbacks", param="fallbacks")
    return Wishes(fallbacks=names, disable_fallbacks=_read(fields, "disable_fallbacks", bool) or False)


def _is_given(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return bytes(fields.get(name, b"null")) not in {b"null", b"[]"}


class _Format(msgspec.Struct, frozen=True):
    type: str = "text"


def _asks_for_format(fields: dict[str, msgspec.Raw]) -> bool:
    wanted = _read(fields, "response_format", _Format)
    return wanted is not None and wanted.type != "text"
