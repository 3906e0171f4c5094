"""Messages of content blocks as chat messages: what a user says, what tools answered, what the model said before."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from app.errors import InvalidRequest

T = TypeVar("T")

Part = dict[str, Any]
"""Of a chat message's content."""

FORGOTTEN: Final = frozenset(
    {"thinking", "redacted_thinking", "server_tool_use", "tool_reference", "compaction", "fallback"}
)
"""Blocks of earlier turns that only their own vendor can read. What its tools found (`…_tool_result`) goes, too."""

EMPTY_ERROR: Final = "Error"
"""A tool that failed and said nothing: `is_error` has no other place in a chat message than its text."""


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[msgspec.Raw]


class _Typed(msgspec.Struct, frozen=True):
    type: str


class Text(msgspec.Struct, frozen=True):
    text: str


class Source(msgspec.Struct, frozen=True):
    """Of a picture or document: `base64`, `url`, `text`, `content` or `file`."""

    type: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    content: str | list[msgspec.Raw] | None = None


class Image(msgspec.Struct, frozen=True):
    source: Source


class Document(msgspec.Struct, frozen=True):
    source: Source
    title: str | None = None
    context: str | None = None


class SearchResult(msgspec.Struct, frozen=True):
    source: str
    title: str
    content: list[Text]


class ToolUse(msgspec.Struct, frozen=True):
    id: str
    name: str
    input: msgspec.Raw


class ToolResult(msgspec.Struct, frozen=True):
    tool_use_id: str
    content: str | list[msgspec.Raw] | None = None
    is_error: bool | None = None


_system_decoder = msgspec.json.Decoder(str | list[Text] | None)


def system_of(raw: msgspec.Raw | None) -> list[dict[str, Any]]:
    """The `system` field as a message, if it says anything."""
    try:
        given = _system_decoder.decode(raw) if raw is not None else None
    except (msgspec.ValidationError, RecursionError) as exc:
        raise InvalidRequest(f"system: {exc}", param="system") from None
    text = given if isinstance(given, str) else "\n\n".join(block.text for block in given or ())
    return [{"role": "system", "content": text}] if text else []


def messages_of(raw: msgspec.Raw) -> list[dict[str, Any]]:
    """In order. Raises: InvalidRequest naming the block that no chat model takes."""
    made: list[dict[str, Any]] = []
    for number, message in enumerate(_decoded(raw, list[Message], "messages")):
        place = f"messages.{number}.content"
        if isinstance(message.content, str):
            made.append({"role": message.role, "content": message.content})
        elif message.role == "assistant":
            made.extend(_said(message.content, place))
        else:
            made.extend(_heard(message.role, message.content, place))
    return made


def _said(blocks: list[msgspec.Raw], place: str) -> list[dict[str, Any]]:
    """An assistant's turn: its texts are one text, for citations tear one into many."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for number, raw in enumerate(blocks):
        at = f"{place}.{number}"
        kind = _decoded(raw, _Typed, at).type
        if kind == "text":
            texts.append(_decoded(raw, Text, at).text)
        elif kind == "tool_use":
            use = _decoded(raw, ToolUse, at)
            function = {"name": use.name, "arguments": bytes(use.input).decode()}
            calls.append({"id": use.id, "type": "function", "function": function})
        elif not _is_forgotten(kind):
            raise _unknown(kind, at)
    if not (texts or calls):
        return []
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or (None if calls else "")}
    return [{**message, "tool_calls": calls} if calls else message]


def _heard(role: str, blocks: list[msgspec.Raw], place: str) -> list[dict[str, Any]]:
    """A user's turn. What tools answered comes first: it must follow the calls directly."""
    answers: list[dict[str, Any]] = []
    parts: list[Part] = []
    for number, raw in enumerate(blocks):
        at = f"{place}.{number}"
        kind = _decoded(raw, _Typed, at).type
        if kind == "tool_result":
            answer, shown = _answered(_decoded(raw, ToolResult, at), at)
            answers.append(answer)
            parts.extend(shown)
        elif not _is_forgotten(kind):
            parts.extend(_parts(kind, raw, at))
    if not parts:
        return answers if answers else [{"role": role, "content": ""}]
    return [*answers, {"role": role, "content": _plain(parts)}]


def _answered(result: ToolResult, at: str) -> tuple[dict[str, Any], list[Part]]:
    """The `tool` message, which holds text alone, and what else the tool showed: that goes to the user's message."""
    parts: list[Part] = []
    if isinstance(result.content, str):
        parts.append(_text(result.content))
    for number, raw in enumerate(result.content if isinstance(result.content, list) else ()):
        within = f"{at}.content.{number}"
        kind = _decoded(raw, _Typed, within).type
        parts.extend([] if _is_forgotten(kind) else _parts(kind, raw, within))
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if result.is_error:
        text = f"{EMPTY_ERROR}: {text}" if text else EMPTY_ERROR
    shown = [part for part in parts if part["type"] != "text"]
    if shown:
        shown.insert(0, _text(f"Shown by the tool call {result.tool_use_id}:"))
    return {"role": "tool", "tool_call_id": result.tool_use_id, "content": text}, shown


def _parts(kind: str, raw: msgspec.Raw, at: str) -> list[Part]:
    match kind:
        case "text":
            return [_text(_decoded(raw, Text, at).text)]
        case "image":
            return [_image(_decoded(raw, Image, at).source, at)]
        case "document":
            return _document(_decoded(raw, Document, at), at)
        case "search_result":
            found = _decoded(raw, SearchResult, at)
            return [_text("\n".join((found.title, found.source, *(block.text for block in found.content))))]
        case _:
            raise _unknown(kind, at)


def _image(source: Source, at: str) -> Part:
    if source.type == "base64" and source.data and source.media_type:
        return {"type": "image_url", "image_url": {"url": f"data:{source.media_type};base64,{source.data}"}}
    if source.type == "url" and source.url:
        return {"type": "image_url", "image_url": {"url": source.url}}
    raise _unknown(f"image from {source.type}", at)


def _document(document: Document, at: str) -> list[Part]:
    """Its title and context are part of what is read."""
    source, about = document.source, [text for text in (document.title, document.context) if text]
    if source.type == "base64" and source.data and source.media_type == "application/pdf":
        name = document.title or "document"
        file = {
            "filename": name if name.lower().endswith(".pdf") else f"{name}.pdf",
            "file_data": f"data:{source.media_type};base64,{source.data}",
        }
        return [*([_text(document.context)] if document.context else []), {"type": "file", "file": file}]
    if source.type == "text" and source.data is not None:
        return [_text("\n".join((*about, source.data)))]
    if source.type == "content" and isinstance(source.content, str):
        return [_text("\n".join((*about, source.content)))]
    if source.type == "content" and isinstance(source.content, list):
        parts = [_text("\n".join(about))] if about else []
        for number, raw in enumerate(source.content):
            within = f"{at}.source.content.{number}"
            kind = _decoded(raw, _Typed, within).type
            if kind not in {"text", "image"}:  # documents in documents there are none
                raise _unknown(kind, within)
            parts.extend(_parts(kind, raw, within))
        return parts
    raise _unknown(f"document from {source.type}", at)


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _plain(parts: list[Part]) -> str | list[Part]:
    """One text is written as text: many targets take no list."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _is_forgotten(kind: str) -> bool:
    return kind in FORGOTTEN or (kind.endswith("_tool_result") and kind != "tool_result")


def _decoded(raw: msgspec.Raw, kind: type[T], at: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise InvalidRequest(f"{at}: {exc}", param=at) from None


def _unknown(what: str, at: str) -> InvalidRequest:
    """Rather than answering as if it had not been said."""
    return InvalidRequest(f"{at}: {what[:100]!r} is not taken by this model", param=at, code="unsupported_parameter")
