"""Streams of `POST /v1/messages` with Anthropic's official SDK, and as bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import ToolParam

from anthropic_upstream import breaks_with, refuses, says_blocks, text, tool_use
from api.test_messages import ASKED, TOOL, running_messages
from gateway import Gateway
from nasty_gateway import TRANSPORTS
from transport_cases import CASES
from upstream import answers, dies, fails

pytestmark = pytest.mark.requirement("SVC-1")

TOOLS: list[ToolParam] = [TOOL]


@pytest.fixture(scope="module", params=TRANSPORTS)
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_messages(tmp_path_factory.mktemp("streams"), request.param) as started:
        yield started


@pytest.fixture
def gateway(either: Gateway) -> Gateway:
    either.upstream.reset()
    return either


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.server.url, api_key=gateway.key, max_retries=0, timeout=30) as made:
        yield made


def events_of(gateway: Gateway, model: str = "chat", **fields: object) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and payload of each event, read strictly. Raises: AssertionError for anything but whole events."""
    answer = gateway.post({"model": model, "stream": True, **ASKED, **fields}, "/v1/messages")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8", answer.text
    *whole, rest = answer.text.split("\n\n")
    assert rest == ""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for event in whole:
        name, data = event.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        found.append((name[7:], json.loads(data[6:])))
        assert found[-1][0] == found[-1][1]["type"]
    return found


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_text(gateway: Gateway, client: anthropic.Anthropic, model: str) -> None:
    """The helper's texts and final message, over either wire."""
    gateway.upstream.on("gpt", answers("Grüße 🎉 aus Köln", usage=(7, 3)))
    gateway.upstream.on("claude-one", says_blocks(text("Grüße 🎉 aus Köln")))
    with client.messages.stream(model=model, **ASKED) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == "Grüße 🎉 aus Köln"
    assert [block.text for block in message.content if block.type == "text"] == ["Grüße 🎉 aus Köln"]
    assert (message.model, message.stop_reason) == (model, "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 3)


def test_the_wire(gateway: Gateway) -> None:
    """Every event with its name, none twice, no `[DONE]`."""
    gateway.upstream.on("gpt", answers("Hello", chunks=2))
    kinds = [name for name, _ in events_of(gateway)]
    assert [kind for n, kind in enumerate(kinds) if kinds[:n][-1:] != [kind]] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("case", ["parallel tools", "tools"])
def test_tools(gateway: Gateway, client: anthropic.Anthropic, case: str) -> None:
    """Arguments come in pieces and are put together by the SDK."""
    gateway.upstream.on("gpt", CASES[case].answer())
    with client.messages.stream(model="chat", tools=TOOLS, **ASKED) as stream:
        partial = [event.partial_json for event in stream if event.type == "input_json"]
        message = stream.get_final_message()
    assert len(partial) >= len(message.content) - 1
    assert message.stop_reason == "tool_use"
    towns = [block.input for block in message.content if block.type == "tool_use"]
    assert towns == [{"town": "Köln"}, {"town": "Ürümqi"}][: len(towns)]


def test_tools_of_claude(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """As they came."""
    script = says_blocks(
        text("I look."),
        tool_use("t1", "weather", town="Köln"),
        tool_use("t2", "weather", town="Bonn"),
        stop_reason="tool_use",
    )
    gateway.upstream.on("claude-one", script)
    with client.messages.stream(model="claude", tools=TOOLS, **ASKED) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in message.content if block.type == "tool_use"] == [
        {"town": "Köln"},
        {"town": "Bonn"},
    ]


def test_thinking(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """A block of its own before the text."""
    gateway.upstream.on("gpt", CASES["reasoning"].answer())
    with client.messages.stream(model="chat", **ASKED) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]


def test_a_target_that_does_not_count(gateway: Gateway) -> None:
    """The end has an estimate: a client cannot do without."""
    gateway.upstream.on("gpt", answers("Hello there", usage=None))
    usage = dict(events_of(gateway))["message_delta"]["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_the_first_token_is_not_held_back(gateway: Gateway, client: anthropic.Anthropic, model: str) -> None:
    """It is there while the vendor still writes."""
    gateway.upstream.on("gpt", answers("Hello world", hold_after=1))
    gateway.upstream.on("claude-one", says_blocks(text("Hello world"), hold_after=1))
    with client.messages.stream(model=model, **ASKED) as stream:
        texts = stream.text_stream
        first = next(texts)
        gateway.upstream.release()
        assert first + "".join(texts) == "Hello world"


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_leaving_closes_the_vendors_connection(gateway: Gateway, client: anthropic.Anthropic, model: str) -> None:
    """Within a second."""
    gateway.upstream.on("gpt", answers("Hello world", hold_after=1))
    gateway.upstream.on("claude-one", says_blocks(text("Hello world"), hold_after=1))
    with client.messages.stream(model=model, **ASKED) as stream:
        next(stream.text_stream)
    left_s = time.monotonic()
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s, timeout_s=2)
    assert (gateway.upstream.requests[0].left_at_s or 0) - left_s < 1


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_broken_off(gateway: Gateway, client: anthropic.Anthropic, model: str) -> None:
    """The text that came, then exactly one error event, and nothing behind it."""
    gateway.upstream.on("gpt", answers("Hello world", die_after=2, delay_s=0.05))
    gateway.upstream.on("claude-one", says_blocks(text("Hello world"), die_after=2, delay_s=0.05))
    seen: list[str] = []

    def read() -> None:
        with client.messages.stream(model=model, **ASKED) as stream:
            seen.extend(stream.text_stream)

    with pytest.raises(anthropic.APIStatusError) as caught:
        read()
    assert "Hello world".startswith("".join(seen))
    assert (caught.value.type, caught.value.error_code) == ("api_error", "upstream_unavailable")
    kinds = [name for name, _ in events_of(gateway, model)]
    assert kinds.count("error") == 1
    assert kinds[-1] == "error"


def test_overloaded_in_the_middle(gateway: Gateway) -> None:
    """Anthropic's own error event becomes ours: with what was tried, without its words."""
    gateway.upstream.on("claude-one", breaks_with("overloaded_error", "Overloaded", words="Hello"))
    answer = gateway.post({"model": "claude", "stream": True, **ASKED}, "/v1/messages")
    assert "overloaded_error" not in answer.text
    assert "upstream_unavailable" in answer.text


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_errors_before_the_first_token(gateway: Gateway, model: str) -> None:
    """A status, not a stream."""
    gateway.upstream.on("gpt", fails(400))
    gateway.upstream.on("claude-one", refuses(400, "invalid_request_error", "wrong"))
    answer = gateway.post({"model": model, "stream": True, **ASKED}, "/v1/messages")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upstream_rejected")


@pytest.mark.parametrize("script", [dies, refuses(529, "overloaded_error"), breaks_with("overloaded_error")])
def test_silent_fallback_to_another_wire(gateway: Gateway, client: anthropic.Anthropic, script: Any) -> None:
    """Before the first token; the client sees one stream, under the alias."""
    gateway.upstream.on("claude-two", script)
    gateway.upstream.on("gpt", answers("Hello"))
    with client.messages.stream(model="mixed", **ASKED) as stream:
        message = stream.get_final_message()
        assert stream.response.headers["x-wattos-target"] == "openai/gpt"
    assert [block.text for block in message.content if block.type == "text"] == ["Hello"]
    assert message.model == "mixed"
    assert [name for name, _ in events_of(gateway, "mixed")].count("message_start") == 1


async def test_async_client(gateway: Gateway) -> None:
    """The same over the SDK's other client."""
    gateway.upstream.on("gpt", answers("Hello world"))
    made = anthropic.AsyncAnthropic(base_url=gateway.server.url, api_key=gateway.key, max_retries=0)
    async with made as client, client.messages.stream(model="chat", **ASKED) as stream:
        assert await stream.get_final_text() == "Hello world"


def test_trail(gateway: Gateway) -> None:
    """In the headers, as far as it is known then."""
    with gateway.http() as http:
        answer: httpx.Response = http.post("/v1/messages", json={"model": "backed", "stream": True, **ASKED})
    assert (answer.headers["x-wattos-target"], answer.headers["x-wattos-attempts"]) == ("openai/spare", "2")
