"""The official SDKs of OpenAI and Anthropic for JavaScript, in Node.js, against a real server and a scripted vendor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from nasty_gateway import TRANSPORTS, running_nasty
from server import ROOT
from transport_cases import CASES
from upstream import answers, embeds, fails

HERE = Path(__file__).parent
USE_S = 30
"""For one use: Node starts within a second."""

Use = Callable[[str], Any]

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules" / "openai").exists(),
    reason="node, or node_modules, is missing: run `make tools`",
)


@pytest.fixture(scope="module", params=TRANSPORTS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_nasty(tmp_path_factory.mktemp("npm"), request.param) as started:
        assert started.ask("free").status_code == 200  # the first call loads litellm
        yield started


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.upstream.reset()
    return running


def using(gateway: Gateway, file: str) -> Use:
    """Runs one use of `file` and reads what its user saw."""
    env = {"PATH": os.environ["PATH"], "BASE_URL": gateway.server.url, "KEY": gateway.key}

    def use(name: str) -> Any:
        command = ["node", str(HERE / file), name]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=USE_S)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
        return json.loads(done.stdout)

    return use


@pytest.fixture
def openai(gateway: Gateway) -> Use:
    return using(gateway, "openai.mjs")


@pytest.fixture
def anthropic(gateway: Gateway) -> Use:
    return using(gateway, "anthropic.mjs")


def test_openai_chat(gateway: Gateway, openai: Use) -> None:
    """Whole: text, alias, usage and the request's id."""
    gateway.upstream.on("gpt", answers("Grüße 🎉", usage=(7, 3)))
    assert openai("chat") == {"content": "Grüße 🎉", "model": "chat", "total": 10, "hasRequestId": True}
    assert gateway.upstream.requests[0].body["seed"] == 7


def test_openai_stream(gateway: Gateway, openai: Use) -> None:
    """Chunk by chunk, with the usage that was asked for; and put together by the SDK's helper."""
    gateway.upstream.on("gpt", answers("Grüße 🎉 aus Köln", usage=(7, 3)))
    assert openai("stream") == {"text": "Grüße 🎉 aus Köln", "total": 10, "finish": "stop"}
    assert openai("helper") == {"text": "Grüße 🎉 aus Köln", "finish": "stop", "nDeltas": 4}


@pytest.mark.parametrize("use", ["tools", "streamedTools"])
def test_openai_runs_tools(gateway: Gateway, openai: Use, use: str) -> None:
    """`runTools`: the tool is called with its arguments, its result goes back, the second answer is the text."""
    gateway.upstream.on("gpt", CASES["tools"].answer(), answers("It is sunny."))
    assert openai(use) == {"text": "It is sunny.", "towns": ["Köln"]}
    sent = gateway.upstream.requests[1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[2]["tool_call_id"] == sent[1]["tool_calls"][0]["id"] == "call_1"


def test_openai_structured_output(gateway: Gateway, openai: Use) -> None:
    """The schema reaches the vendor."""
    gateway.upstream.on("gpt", CASES["structured output"].answer())
    assert openai("structured") == {"n": 7}
    assert gateway.upstream.requests[0].body["response_format"]["json_schema"]["strict"] is True


def test_openai_embeddings(gateway: Gateway, openai: Use) -> None:
    """The SDK asks for base64 and decodes it."""
    gateway.upstream.on("vec", embeds())
    assert openai("embeddings") == [[1, 0.5, 0.5], [3, 0.5, 0.5]]


def test_openai_models(openai: Use) -> None:
    """Listed page by page, and found by name."""
    found = openai("models")
    assert {"chat", "doomed", "vectors"} <= set(found["names"])
    assert found["one"] == "chat"


@pytest.mark.parametrize(
    ("status", "kind", "seen", "code"),
    [
        (400, "BadRequestError", 400, "upstream_rejected"),
        (401, "InternalServerError", 502, "upstream_misconfigured"),
        (429, "RateLimitError", 429, "upstream_rate_limited"),
        (503, "InternalServerError", 502, "upstream_unavailable"),
    ],
)
def test_openai_errors(gateway: Gateway, openai: Use, status: int, kind: str, seen: int, code: str) -> None:
    """Their classes, our codes."""
    gateway.upstream.on("gpt", fails(status))
    error = openai("error")
    assert (error["error"], error["status"], error["code"], error["hasRequestId"]) == (kind, seen, code, True)


def test_openai_errors_of_ours(openai: Use) -> None:
    """A wrong key and an unknown model."""
    assert (openai("wrongKey")["error"], openai("unknownModel")["error"]) == ("AuthenticationError", "NotFoundError")


def test_openai_broken_stream(gateway: Gateway, openai: Use) -> None:
    """An exception behind the text that came."""
    gateway.upstream.on("gpt", answers("Hello world", die_after=2))
    seen = openai("broken")
    assert (seen["text"], seen["error"], seen["code"]) == ("Hello ", "APIError", "upstream_unavailable")


def test_openai_retries(gateway: Gateway, openai: Use) -> None:
    """After `retry-after`; and not at all where it is useless."""
    gateway.upstream.on("gpt", fails(429, retry_after="1"), answers("Hello"))
    seen = openai("retried")
    assert seen["content"] == "Hello"
    assert 1_000 <= seen["ms"] < 3_000
    gateway.upstream.requests.clear()
    gateway.upstream.on("gpt", fails(401))
    assert openai("useless")["code"] == "upstream_misconfigured"
    assert len(gateway.upstream.requests) == 1


def test_openai_break_out_of_a_stream(gateway: Gateway, openai: Use) -> None:
    """`break` in the loop closes the connection, ours to the vendor included."""
    gateway.upstream.on("gpt", answers("Hello world", hold_after=2))
    assert openai("abort") == {"aborted": True}
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s, timeout_s=1)


def test_anthropic_create(gateway: Gateway, anthropic: Use) -> None:
    """Its wire over a target of OpenAI's: text, stop reason, tokens."""
    gateway.upstream.on("gpt", answers("Grüße 🎉", usage=(7, 3)))
    made = anthropic("create")
    assert made["content"][0] | {"citations": None} == {"type": "text", "text": "Grüße 🎉", "citations": None}
    assert (made["role"], made["model"], made["stop_reason"]) == ("assistant", "chat", "end_turn")
    assert (made["input"], made["output"]) == (7, 3)
    sent = gateway.upstream.requests[0].body
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]


def test_anthropic_stream(gateway: Gateway, anthropic: Use) -> None:
    """All its events in order; the helper's final message is that of a whole answer."""
    gateway.upstream.on("gpt", answers("Grüße 🎉 aus Köln", usage=(7, 3)))
    seen = anthropic("stream")
    order = ("message_start", "content_block_start", "content_block_delta", "content_block_stop")
    assert [kind for kind in seen["kinds"] if kind != "ping"] == [*order, "message_delta", "message_stop"]
    assert seen["text"] == "Grüße 🎉 aus Köln"
    helped = anthropic("helper")
    assert (helped["text"], helped["stop_reason"]) == ("Grüße 🎉 aus Köln", "end_turn")
    assert (helped["final"][0]["text"], helped["output"]) == ("Grüße 🎉 aus Köln", 3)


@pytest.mark.parametrize("use", ["tools", "streamedTools"])
def test_anthropic_tools(gateway: Gateway, anthropic: Use, use: str) -> None:
    """Two calls at once, behind a text: blocks in order, arguments as objects."""
    gateway.upstream.on("gpt", CASES["parallel tools"].answer())
    made = anthropic(use)
    assert made["stop_reason"] == "tool_use"
    assert [block["type"] for block in made["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in made["content"][1:]] == [{"town": "Köln"}, {"town": "Ürümqi"}]
    assert gateway.upstream.requests[0].body["tools"][0]["function"]["name"] == "weather"


def test_anthropic_count_tokens(anthropic: Use) -> None:
    """A number, though this target has no such call."""
    assert anthropic("count")["input_tokens"] > 0


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (429, "RateLimitError", "rate_limit_error"),
        (503, "InternalServerError", "api_error"),
    ],
)
def test_anthropic_errors(gateway: Gateway, anthropic: Use, status: int, kind: str, name: str) -> None:
    """Its classes, and its own error types in the body."""
    gateway.upstream.on("gpt", fails(status))
    error = anthropic("error")
    assert (error["error"], error["type"]) == (kind, name)


def test_anthropic_wrong_key(anthropic: Use) -> None:
    """Sent as `x-api-key`, as that SDK does."""
    error = anthropic("wrongKey")
    assert (error["error"], error["type"]) == ("AuthenticationError", "authentication_error")


def test_anthropic_broken_stream(gateway: Gateway, anthropic: Use) -> None:
    """An exception behind the text that came."""
    gateway.upstream.on("gpt", answers("Hello world", die_after=2))
    seen = anthropic("broken")
    assert (seen["text"], "error" in seen) == ("Hello ", True)


def test_anthropic_retries(gateway: Gateway, anthropic: Use) -> None:
    """After `retry-after`."""
    gateway.upstream.on("gpt", fails(429, retry_after="1"), answers("Hello"))
    seen = anthropic("retried")
    assert seen["content"] == "Hello"
    assert 1_000 <= seen["ms"] < 3_000
