"""A request of Anthropic's wire as the fields of a chat completion. Knows no target, but the name of its model.

What chat completions do not have is left out where the answer stays the same kind of answer (`top_k`, cache marks,
thoughts of earlier turns, which are signed for their own vendor); what would be missed is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.errors import InvalidRequest
from app.http.body import read_field
from app.messages.blocks import messages_of, system_of
from app.messages.schemas import Metadata, Object, OutputConfig, Thinking, Tool, ToolChoice

SAME = ("max_tokens", "temperature", "top_p")
"""Fields that mean the same under the same name."""

NEEDS_COMPLETION_TOKENS = re.compile(r"openai/(?:o\d|gpt-5)")
"""OpenAI's reasoning models refuse `max_tokens`. https://platform.openai.com/docs/api-reference/chat/create"""

BUDGETS = ((2048, "low"), (4096, "medium"))
"""A thinking budget below so many tokens is this effort, above all of them it is high. litellm goes the other way with
1024, 2048 and 4096 for low, medium and high (`litellm.constants`, DEFAULT_REASONING_EFFORT_*_THINKING_BUDGET), so what
either makes of the other's is the same again."""

EFFORTS: Mapping[str, str] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""Anthropic's names; `high` is the most that every reasoning model takes."""

MAX_USER_CHARS = 64
"""OpenAI takes no longer `user`; coding agents send 140 characters, of which the digest is as good a name."""

NEEDS_ANTHROPIC = ("mcp_servers", "container")
"""Fields that make the vendor itself do something."""


def chat_fields(fields: Mapping[str, msgspec.Raw], provider_model: str = "") -> dict[str, msgspec.Raw]:
    """`provider_model`: the target's, as `openai/gpt-4o-mini`. Raises: InvalidRequest for what no chat model takes."""
    for name in NEEDS_ANTHROPIC:
        if bytes(fields.get(name, b"null")) not in {b"null", b"[]", b"{}"}:
            raise _unsupported(f"{name}: only Anthropic's own models have this", name)
    chat: dict[str, Any] = {"messages": [*system_of(fields.get("system")), *messages_of(fields["messages"])]}
    chat |= {name: fields[name] for name in SAME if bytes(fields.get(name, b"null")) != b"null"}
    if "max_tokens" in chat and NEEDS_COMPLETION_TOKENS.match(provider_model):
        chat["max_completion_tokens"] = chat.pop("max_tokens")
    if stop := read_field(fields, "stop_sequences", list[str]):
        chat["stop"] = stop
    if tools := read_field(fields, "tools", list[Tool]):
        chat["tools"] = [_function(tool, number) for number, tool in enumerate(tools)]
        chat |= _choice(read_field(fields, "tool_choice", ToolChoice))
    output = read_field(fields, "output_config", OutputConfig) or OutputConfig()
    if effort := _effort(read_field(fields, "thinking", Thinking), output.effort):
        chat["reasoning_effort"] = effort
    if output.format is not None:
        chat["response_format"] = _format(output.format)
    metadata = read_field(fields, "metadata", Metadata)
    if metadata is not None and metadata.user_id:
        chat["user"] = _user(metadata.user_id)
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in chat.items()}


def _function(tool: Tool, number: int) -> dict[str, Any]:
    at = f"tools.{number}"
    if tool.type not in {None, "custom"}:
        raise _unsupported(f"{at}: {str(tool.type)[:100]!r} is a tool of Anthropic's own models", at)
    if not tool.name:
        raise InvalidRequest(f"{at}.name is missing", param=at, code="missing_field")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    made: dict[str, Any] = {}
    match choice.type:
        case "auto" | "none":
            made["tool_choice"] = choice.type
        case "any":
            made["tool_choice"] = "required"
        case "tool":
            if not choice.name:
                raise InvalidRequest("tool_choice.name is missing", param="tool_choice", code="missing_field")
            made["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    if choice.disable_parallel_tool_use:
        made["parallel_tool_calls"] = False
    return made


def _effort(thinking: Thinking | None, effort: str | None) -> str | None:
    """A named effort goes before a budget, which Anthropic's newer models do not take any more."""
    if thinking is not None and thinking.type == "disabled":
        return None
    if effort is not None:
        return EFFORTS.get(effort, effort)
    if thinking is None or thinking.budget_tokens is None:
        return None
    return next((name for below, name in BUDGETS if thinking.budget_tokens < below), "high")


def _format(wanted: Object) -> dict[str, Any]:
    """The schema has no name on Anthropic's wire, and must have one on OpenAI's."""
    if bytes(wanted.get("type", b"")) != b'"json_schema"' or "schema" not in wanted:
        raise _unsupported("output_config.format: a `json_schema` with a `schema` is known", "output_config")
    schema = {"name": "answer", "schema": wanted["schema"], "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _user(user_id: str) -> str:
    return user_id if len(user_id) <= MAX_USER_CHARS else hashlib.sha256(user_id.encode()).hexdigest()


def _unsupported(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsupported_parameter")
