"""Requests of Anthropic's wire as chat's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from app.errors import InvalidRequest
from app.messages.to_chat import chat_fields

USER = {"role": "user", "content": "ping"}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBO"}
TOOL = {"name": "weather", "description": "Of a town.", "input_schema": {"type": "object"}}


def chat(*messages: Mapping[str, Any], provider_model: str = "openai/gpt-4o", **fields: object) -> dict[str, Any]:
    given = {"model": "chat", "max_tokens": 9, "messages": list(messages or (USER,)), **fields}
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in given.items()}
    return {name: json.loads(bytes(value)) for name, value in chat_fields(raw, provider_model).items()}


def said(*messages: Mapping[str, Any], **fields: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(*messages, **fields)["messages"]
    return found


def user(*blocks: object) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_plain_request() -> None:
    """No field is made up, and none of Anthropic's own gets through."""
    assert chat(top_k=5, stream=True, cache_control={"type": "ephemeral"}, anthropic_beta=["x"]) == {
        "messages": [USER],
        "max_tokens": 9,
    }


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"temperature": None}, {}),
        ({"stop_sequences": ["\n\nHuman:"]}, {"stop": ["\n\nHuman:"]}),
        ({"stop_sequences": []}, {}),
        ({"metadata": {"user_id": "u-1"}}, {"user": "u-1"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, {}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, {"reasoning_effort": "medium"}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
        ({"tool_choice": {"type": "auto"}}, {}),
    ],
)
def test_parameters(fields: dict[str, Any], made: dict[str, Any]) -> None:
    """Each under chat's name, or left out."""
    assert chat(**fields) == {"messages": [USER], "max_tokens": 9, **made}


def test_long_user_is_named_by_its_digest() -> None:
    """OpenAI refuses more than 64 characters; the same user keeps the same name."""
    first, again = (chat(metadata={"user_id": "u" * 140})["user"] for _ in range(2))
    assert first == again
    assert len(first) == 64


@pytest.mark.parametrize("model", ["openai/o3-mini", "openai/gpt-5.1"])
def test_reasoning_models_of_openai_get_their_own_bound(model: str) -> None:
    """They refuse `max_tokens`."""
    assert chat(provider_model=model) == {"messages": [USER], "max_completion_tokens": 9}


def test_structured_output() -> None:
    """The schema, under a name, which chat needs."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    made = chat(output_config={"format": {"type": "json_schema", "schema": schema}})["response_format"]
    assert made == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather"},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
        (None, {}),
    ],
)
def test_tools(choice: dict[str, Any] | None, made: dict[str, Any]) -> None:
    """Functions with the schema as parameters; the choice between them."""
    found = chat(tools=[{**TOOL, "type": "custom", "cache_control": {"type": "ephemeral"}}], tool_choice=choice)
    function = {"name": "weather", "description": "Of a town.", "parameters": {"type": "object"}}
    assert found.pop("tools") == [{"type": "function", "function": function}]
    assert found == {"messages": [USER], "max_tokens": 9, **made}


@pytest.mark.parametrize("system", ["Be brief.", [text("Be"), {**text("brief."), "cache_control": None}]])
def test_system(system: object) -> None:
    """The first message, a text in either case."""
    words = "Be brief." if isinstance(system, str) else "Be\n\nbrief."
    assert said(system=system) == [{"role": "system", "content": words}, USER]


def test_system_between_messages() -> None:
    """Where it stands."""
    assert said(USER, {"role": "system", "content": [text("Now in German.")]}) == [
        USER,
        {"role": "system", "content": "Now in German."},
    ]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (text("a"), text("a")),
        (
            {"type": "image", "source": PNG},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ),
        (
            {
                "type": "document",
                "title": "Plan",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            },
            {"type": "file", "file": {"filename": "Plan.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        ),
        (
            {
                "type": "document",
                "title": "Plan",
                "source": {"type": "text", "media_type": "text/plain", "data": "Step 1"},
            },
            text("Plan\nStep 1"),
        ),
        ({"type": "document", "source": {"type": "content", "content": "Step 1"}}, text("Step 1")),
        (
            {"type": "search_result", "source": "a.md", "title": "A", "content": [text("x"), text("y")]},
            text("A\na.md\nx\ny"),
        ),
    ],
)
def test_what_users_show(block: dict[str, Any], part: dict[str, Any]) -> None:
    """Each block as a part, in its place."""
    assert said(user(text("Look:"), block)) == [user(text("Look:"), part)]


def test_a_document_of_blocks() -> None:
    """Its texts and pictures."""
    source = {"type": "content", "content": [text("a"), {"type": "image", "source": PNG}]}
    (message,) = said(user({"type": "document", "source": source}))
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]


def test_one_text_is_no_list() -> None:
    """Many targets take no list of parts."""
    assert said(user(text("ping"))) == [USER]


def test_tools_called_and_answered() -> None:
    """The calls in the assistant's message, the answers directly behind it, then what the user adds."""
    turns = (
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                text("I look."),
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Köln"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
            ],
        },
        user(
            text("And?"),
            {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
            {"type": "tool_result", "tool_use_id": "t2", "content": [text("no"), text("town")], "is_error": True},
        ),
    )
    _, assistant, *rest = said(*turns)
    assert assistant["content"] == "I look."
    assert [call["id"] for call in assistant["tool_calls"]] == ["t1", "t2"]
    assert [json.loads(call["function"]["arguments"]) for call in assistant["tool_calls"]] == [{"town": "Köln"}, {}]
    assert rest == [
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: no\ntown"},
        {"role": "user", "content": "And?"},
    ]


def test_a_picture_from_a_tool() -> None:
    """A tool message holds text alone: the picture follows, with the call's name."""
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [text("done"), {"type": "image", "source": PNG}]}
    tool, shown = said(user(result))
    assert tool == {"role": "tool", "tool_call_id": "t1", "content": "done"}
    assert shown["content"][0] == text("Shown by the tool call t1:")
    assert shown["content"][1]["type"] == "image_url"


@pytest.mark.parametrize("result", [{}, {"content": ""}, {"content": []}])
def test_a_tool_that_says_nothing(result: dict[str, Any]) -> None:
    """Still an answer: without it the call would be open."""
    made = said(user({"type": "tool_result", "tool_use_id": "t1", **result}))
    assert made == [{"role": "tool", "tool_call_id": "t1", "content": ""}]


def test_what_only_its_vendor_reads_is_forgotten() -> None:
    """Thoughts, and what Anthropic's own tools did, of earlier turns."""
    blocks = [
        {"type": "redacted_thinking", "data": "x"},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
        text("Found: "),
        text("it."),
    ]
    assert said(USER, {"role": "assistant", "content": blocks})[1:] == [{"role": "assistant", "content": "Found: it."}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0"),
        ({"tools": [TOOL, {"description": "x"}]}, "tools.1"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com"}]}, "mcp_servers"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config"),
        ({"system": [{"type": "image"}]}, "system"),
        ({"messages": [user({"type": "text"})]}, "messages.0.content.0"),
        ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]}, "messages.0.content.0"),
        ({"messages": [USER, user({"type": "container_upload", "file_id": "f"})]}, "messages.1.content.0"),
        (
            {"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "hologram"}]})]},
            "messages.0.content.0.content.0",
        ),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}]}, "messages.0.content.0"),
    ],
)
def test_what_no_chat_model_takes_is_refused(fields: dict[str, Any], param: str) -> None:
    """By the name of its place, rather than answered as if it had not been said."""
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.param == param
