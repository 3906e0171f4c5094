"""A chat completion as a message of Anthropic's wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from app.ids import encode_id, new_id
from app.llm.model import Usage
from app.llm.transports.anthropic_wire import shown_usage
from plugins.contract.ids import shown_id

STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Chat's `finish_reason`; any other one is an `end_turn`."""

INVALID_JSON = "INVALID_JSON"
"""Key for arguments that are no JSON object: a model may be cut off in the middle of them. Anthropic's own word:
https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/fine-grained-tool-streaming"""

_ID = re.compile(r"[a-zA-Z0-9_-]+")
"""What Anthropic takes back as a `tool_use_id`."""


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    """Whole, or in a stream a piece of the one with this `index`."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class Said(msgspec.Struct):
    """A chat message, or in a stream a piece of one. Where reasoning stands depends on the vendor."""

    content: Any = None
    """A text, or parts."""
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def text(self) -> str:
        return _text_of(self.content) + (self.refusal or "")

    @property
    def thought(self) -> str:
        return _text_of(self.reasoning_content) or _text_of(self.reasoning)


class Choice(msgspec.Struct):
    """`stop_reason` is vLLM's: which of the request's `stop` ended the text. `delta` stands in chunks."""

    index: int = 0
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: Any = None


class Completion(msgspec.Struct):
    """A chat completion, or a chunk of one."""

    choices: list[Choice] | None = None

    @property
    def first(self) -> Choice | None:
        """The one choice there is on Anthropic's wire."""
        return next((choice for choice in self.choices or () if choice.index == 0), None)


def message_of(body: bytes, alias: str, usage: Usage) -> dict[str, Any]:
    """Raises: msgspec.DecodeError when `body` is no chat completion."""
    choice = msgspec.json.decode(body, type=Completion).first or Choice()
    said = choice.message or Said()
    content: list[dict[str, Any]] = []
    if said.thought:
        content.append({"type": "thinking", "thinking": said.thought, "signature": ""})
    if said.text:
        content.append({"type": "text", "text": said.text, "citations": None})
    content.extend(_tool_use(call) for call in said.tool_calls or ())
    stop_sequence = stopped_by(choice)
    return {
        **envelope(alias),
        "content": content,
        "stop_reason": stop_reason_of(choice, has_tools=bool(said.tool_calls), is_refusal=bool(said.refusal)),
        "stop_sequence": stop_sequence,
        "usage": shown_usage(usage),
    }


def envelope(alias: str) -> dict[str, Any]:
    """What every message has."""
    return {"id": encode_id("msg", new_id()), "type": "message", "role": "assistant", "model": alias}


def stop_reason_of(choice: Choice, *, has_tools: bool, is_refusal: bool = False) -> str:
    """Some vendors call tools and say `stop`."""
    if has_tools and choice.finish_reason in {None, "stop"}:
        return "tool_use"
    if is_refusal:
        return "refusal"
    if stopped_by(choice) is not None:
        return "stop_sequence"
    return STOP_REASONS.get(choice.finish_reason or "stop", "end_turn")


def stopped_by(choice: Choice) -> str | None:
    return choice.stop_reason if isinstance(choice.stop_reason, str) and choice.finish_reason == "stop" else None


def tool_id(given: str | None) -> str:
    """The target's own where Anthropic's wire takes it: it comes back with the tool's result."""
    return given if given and _ID.fullmatch(given) else shown_id("toolu", new_id())


def _tool_use(call: ToolCall) -> dict[str, Any]:
    function = call.function or Function()
    return {
        "type": "tool_use",
        "id": tool_id(call.id),
        "name": function.name or "",
        "input": arguments_of(function.arguments or ""),
    }


def arguments_of(text: str) -> dict[str, Any]:
    """As an object, whatever the model wrote."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {INVALID_JSON: text}


def _text_of(content: object) -> str:
    """Of a text, or of the parts that hold text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [cast("dict[str, object]", part) for part in cast("list[object]", content) if isinstance(part, dict)]
    return "".join(text for part in parts if isinstance(text := part.get("text"), str))
