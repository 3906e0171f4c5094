"""`POST /v1/messages` with Anthropic's official SDK: plain answers, tools, pictures, errors, counting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import ToolParam

from anthropic_upstream import counts, refuses, says_blocks, text, tool_use
from gateway import PRICED, Gateway, config
from nasty_gateway import TRANSPORTS
from server import environment, running
from transport_cases import CASES, PIXEL
from upstream import API_KEY, answers, fails, hangs, refused_url, running_upstream

pytestmark = pytest.mark.requirement("SVC-1")

TOWN = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
TOOL: ToolParam = {"name": "weather", "description": "Of a town.", "input_schema": TOWN}
ASKED: Mapping[str, Any] = {"max_tokens": 100, "messages": [{"role": "user", "content": "ping"}]}


@contextmanager
def running_messages(tmp_path: Path, transport: str) -> Iterator[Gateway]:
    """`tests/gateway.py`'s aliases; `claude`, which speaks Anthropic's wire; `mixed`, both, one behind the other."""
    with running_upstream() as upstream:
        made: dict[str, Any] = config(upstream.url)

        def claude(alias: str, model: str, at: str = upstream.url) -> dict[str, Any]:
            params = {"model": f"anthropic/{model}", "api_base": at.removesuffix("/v1"), "api_key": API_KEY, **PRICED}
            return {"model_name": alias, "litellm_params": params}

        made["model_list"] += [
            claude("claude", "claude-one"),
            claude("mixed", "claude-two"),
            claude("away", "claude-three", refused_url()),
        ]
        made["litellm_settings"]["fallbacks"] += [{"mixed": ["chat"]}]
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(made))
        settings = {"MODELS_CONFIG": str(models), "LLM_TRANSPORT": transport, "LOCAL_MODELS_ENABLED": "false"}
        waits = {"RETRY_INITIAL_DELAY": "0", "RETRY_MAX_DELAY": "0", "RETRY_MAX_ATTEMPTS": "1"}
        breaker = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000"}
        env = environment(tmp_path / "data", **settings, **waits, **breaker)
        with running(env, tmp_path / "server.log") as server:
            yield Gateway(server, upstream)


@pytest.fixture(scope="module", params=TRANSPORTS)
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_messages(tmp_path_factory.mktemp("messages"), request.param) as started:
        yield started


@pytest.fixture
def gateway(either: Gateway) -> Gateway:
    either.upstream.reset()
    return either


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    """As its users make it: the key goes into `x-api-key`."""
    with anthropic.Anthropic(base_url=gateway.server.url, api_key=gateway.key, max_retries=0, timeout=30) as made:
        yield made


def test_text(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """Over a target of OpenAI's wire: typed, counted, with trail and the request's id."""
    gateway.upstream.on("gpt", answers("Grüße 🎉", usage=(7, 3)))
    raw = client.messages.with_raw_response.create(
        model="chat", system="Be brief.", extra_body={"temperature": 0.5}, **ASKED
    )
    message = raw.parse()
    assert [block.text for block in message.content if block.type == "text"] == ["Grüße 🎉"]
    assert (message.role, message.model, message.stop_reason) == ("assistant", "chat", "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 3)
    assert (raw.headers["x-wattos-target"], raw.headers["x-wattos-attempts"]) == ("openai/gpt", "1")
    assert raw.headers["x-wattos-cost-nusd"] == "2850"
    assert message._request_id == raw.headers["x-request-id"]
    sent = gateway.upstream.requests[0].body
    assert [one["role"] for one in sent["messages"]] == ["system", "user"]
    assert (sent["max_tokens"], sent["temperature"]) == (100, 0.5)


def test_bearer(gateway: Gateway) -> None:
    """`auth_token` as well as `api_key`."""
    with anthropic.Anthropic(base_url=gateway.server.url, auth_token=gateway.key, max_retries=0) as client:
        assert client.messages.create(model="chat", **ASKED).content[0].type == "text"


def test_beta_client(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """Coding agents ask at `?beta=true`, with features that a target of another wire does not know."""
    gateway.upstream.on("gpt", answers("Hello"))
    message = client.beta.messages.create(model="chat", betas=["some-feature-2025-01-01"], **ASKED)
    assert message.content[0].type == "text"
    assert gateway.upstream.requests[0].body.keys() == {"model", "messages", "max_tokens"}


def test_thinking(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """What a vendor calls reasoning."""
    gateway.upstream.on("gpt", answers("Yes.", message={"reasoning_content": "Hm."}))
    message = client.messages.create(model="chat", thinking={"type": "enabled", "budget_tokens": 1024}, **ASKED)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert gateway.upstream.requests[0].body["reasoning_effort"] == "low"


def test_tools(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """Two calls at once, answered, and the answer to that: as agents work."""
    gateway.upstream.on("gpt", CASES["parallel tools"].answer())
    message = client.messages.create(model="chat", tools=[TOOL], tool_choice={"type": "any"}, **ASKED)
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"town": "Köln"}, {"town": "Ürümqi"}]
    sent = gateway.upstream.requests[0].body
    assert sent["tools"][0]["function"] == {"name": "weather", "description": "Of a town.", "parameters": TOWN}
    assert sent["tool_choice"] == "required"
    gateway.upstream.on("gpt", answers("Sunny in both."))
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    turns: Any = [*ASKED["messages"], message.to_param(), {"role": "user", "content": results}]
    final = client.messages.create(model="chat", max_tokens=100, tools=[TOOL], messages=turns)
    assert final.stop_reason == "end_turn"
    sent = gateway.upstream.requests[1].body["messages"]
    assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]
    assert [one["tool_call_id"] for one in sent[2:]] == [call["id"] for call in sent[1]["tool_calls"]]


def test_picture(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """Its bytes reach the vendor."""
    media_type, _, data = PIXEL.removeprefix("data:").partition(";base64,")
    source = {"type": "base64", "media_type": media_type, "data": data}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    client.messages.create(model="chat", max_tokens=9, messages=[{"role": "user", "content": content}])
    (message,) = gateway.upstream.requests[0].body["messages"]
    assert message["content"][0] == {"type": "image_url", "image_url": {"url": PIXEL}}


@pytest.mark.parametrize(
    ("status", "kind", "name", "code"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error", "upstream_rejected"),
        (401, anthropic.InternalServerError, "api_error", "upstream_misconfigured"),
        (429, anthropic.RateLimitError, "rate_limit_error", "upstream_rate_limited"),
        (503, anthropic.InternalServerError, "api_error", "upstream_unavailable"),
    ],
)
def test_errors(
    gateway: Gateway,
    client: anthropic.Anthropic,
    status: int,
    kind: type[anthropic.APIStatusError],
    name: str,
    code: str,
) -> None:
    """The SDK's classes, Anthropic's types, our codes where it looks for them, and what was tried."""
    gateway.upstream.on("gpt", fails(status))
    with pytest.raises(kind) as caught:
        client.messages.create(model="chat", **ASKED)
    assert (caught.value.type, caught.value.error_code) == (name, code)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert [one["target"] for one in body["error"]["attempts"]] == ["openai/gpt"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nobody"}, 404, None),
        ({"model": "vectors"}, 400, "model"),
        ({"messages": []}, 400, "messages"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400, "tools.0"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, 400, "messages.0.content.0"),
    ],
)
def test_wrong_requests(gateway: Gateway, fields: dict[str, Any], status: int, param: str | None) -> None:
    """In Anthropic's shape, with the field's name; no vendor is asked."""
    answer = gateway.post({"model": "chat", **ASKED, **fields}, "/v1/messages")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize("depth", [300, 500, 1_000, 10_000])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("place", ["block", "input", "system", "tools", "field", "document"])
def test_deep_nesting(gateway: Gateway, path: str, depth: int, place: str) -> None:
    """Taken, or refused with a reason: never a failure of ours."""
    deep = "[" * depth + "]" * depth
    if place == "document":
        head = '{"type":"document","source":{"type":"content","content":['
        deep = head * (depth // 3) + '{"type":"text","text":"x"}' + "]}}" * (depth // 3)
    block = {
        "block": f'{{"type":"text","text":"x","more":{deep}}}',
        "input": f'{{"type":"tool_use","id":"t","name":"f","input":{{"a":{deep}}}}}',
        "document": deep,
    }.get(place, '{"type":"text","text":"x"}')
    role = "assistant" if place == "input" else "user"
    more = {"system": f'"system":{deep},', "tools": f'"tools":[{{"name":"f","input_schema":{{"a":{deep}}}}}],'}
    body = f'{{"model":"chat","max_tokens":9,{more.get(place, "")}"x":{deep if place == "field" else 1},'
    body += f'"messages":[{{"role":"{role}","content":[{block}]}}]}}'
    with gateway.http() as http:
        answer = http.post(path, content=body.encode())
    assert answer.status_code in {200, 400}, answer.text
    assert answer.status_code == 200 or answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages/nothing", 404, "not_found_error"),
        ("POST", "/v1/messages", 400, "invalid_request_error"),
    ],
)
def test_errors_of_the_framework(gateway: Gateway, method: str, path: str, status: int, name: str) -> None:
    """The same shape for what no route of ours has seen."""
    with gateway.http() as http:
        answer = http.request(method, path, content=b"{")
    assert (answer.status_code, answer.json()["type"], answer.json()["error"]["type"]) == (status, "error", name)


def test_wrong_keys(gateway: Gateway) -> None:
    """Refused in the SDK's words, with either header."""
    for credential in ({"api_key": "sk-wattos-nobody"}, {"auth_token": "nobody"}):
        client = anthropic.Anthropic(base_url=gateway.server.url, max_retries=0, **credential)
        with pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(model="chat", **ASKED)
        assert caught.value.type == "authentication_error"


def test_fallback_to_another_wire(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """Anthropic is overloaded, a target of OpenAI's wire answers; by the configuration, or by the request's wish."""
    gateway.upstream.on("claude-two", refuses(529, "overloaded_error"))
    gateway.upstream.on("claude-one", refuses(529, "overloaded_error"))
    gateway.upstream.on("gpt", answers("Hello"))
    raw = client.messages.with_raw_response.create(model="mixed", **ASKED)
    assert (raw.headers["x-wattos-target"], raw.parse().model) == ("openai/gpt", "mixed")
    raw = client.messages.with_raw_response.create(model="claude", extra_body={"fallbacks": ["chat"]}, **ASKED)
    assert (raw.headers["x-wattos-target"], raw.parse().model) == ("openai/gpt", "claude")


def test_deadline(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """The caller's own."""
    gateway.upstream.on("gpt", hangs)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="chat", extra_headers={"x-request-timeout-ms": "200"}, **ASKED)
    assert (caught.value.status_code, caught.value.type) == (504, "timeout_error")


def test_own_wire(gateway: Gateway, client: anthropic.Anthropic) -> None:
    """A target of Anthropic's: blocks and usage are its own, the model's name is the alias."""
    gateway.upstream.on(
        "claude-one", says_blocks(text("I look."), tool_use("t1", "weather", town="Köln"), stop_reason="tool_use")
    )
    message = client.messages.create(model="claude", tools=[TOOL], **ASKED)
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert (message.model, message.stop_reason) == ("claude", "tool_use")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (7, 100)
    received = gateway.upstream.requests[0]
    assert (received.path, received.headers["x-api-key"]) == ("/v1/messages", API_KEY)


def count(gateway: Gateway, model: str, **fields: object) -> httpx.Response:
    return gateway.post({"model": model, "messages": ASKED["messages"], **fields}, "/v1/messages/count_tokens")


def test_count_tokens(client: anthropic.Anthropic) -> None:
    """Estimated for a target that does not count."""
    plain = client.messages.count_tokens(model="chat", messages=ASKED["messages"]).input_tokens
    more = client.messages.count_tokens(model="chat", messages=ASKED["messages"], tools=[TOOL], system="Be brief.")
    assert 0 < plain < more.input_tokens


def test_count_tokens_of_claude(gateway: Gateway, request: pytest.FixtureRequest) -> None:
    """Its own count where LLM_TRANSPORT lets it be asked; an estimate while it is away, or refuses our key."""
    gateway.upstream.on("claude-one", counts(4242))
    counted = count(gateway, "claude").json()["input_tokens"]
    is_asked = request.node.callspec.params["either"] == "auto"
    assert (counted == 4242, len(gateway.upstream.requests)) == (is_asked, int(is_asked))
    gateway.upstream.on("claude-one", refuses(401, "authentication_error"))
    for model in ("away", "claude"):
        assert count(gateway, model).json()["input_tokens"] > 0


def test_count_tokens_of_what_claude_rejects(gateway: Gateway, request: pytest.FixtureRequest) -> None:
    """The vendor's word, rather than a number for a request that cannot be sent."""
    gateway.upstream.on("claude-one", refuses(400, "invalid_request_error", "wrong"))
    is_asked = request.node.callspec.params["either"] == "auto"
    assert count(gateway, "claude").status_code == (400 if is_asked else 200)


@pytest.mark.parametrize(
    ("model", "status"), [("nobody", 404), ("vectors", 400), ("", 400)], ids=["unknown", "embeddings", "missing"]
)
def test_count_tokens_refused(gateway: Gateway, model: str, status: int) -> None:
    """As a call would be."""
    answer = count(gateway, model)
    assert (answer.status_code, answer.json()["type"]) == (status, "error")
