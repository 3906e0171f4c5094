"""`POST /v1/chat/completions` from a client's side: a real server, a real socket behind it, the official SDK."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import openai
import pytest

from gateway import Gateway
from upstream import answers, fails, hangs

UNDER_BOTH_TRANSPORTS = True

pytestmark = pytest.mark.requirement("SVC-1")

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
LEAVING_S = 1.0
"""Within that the upstream's connection must be closed once a client has left."""


def events(response: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in response.iter_lines() if line]


def error_of(response: httpx.Response) -> dict[str, object]:
    error = response.json()["error"]
    assert error.keys() - {"attempts"} == {"message", "type", "code", "param"}
    return error


def test_trail_and_exact_cost_are_in_the_headers(gateway: Gateway) -> None:
    """Defect 3: 1,000 and 10 tokens at $0.15 and $0.60 a million are 156,000 nano-dollars."""
    gateway.upstream.on("gpt", answers("Hello", usage=(1_000, 10)))
    response = gateway.ask("chat")
    assert response.json()["model"] == "chat"
    trail = {k: v for k, v in response.headers.items() if k.startswith("x-wattos-")}
    assert trail == {
        "x-wattos-target": "openai/gpt",
        "x-wattos-attempts": "1",
        "x-wattos-cache": "off",
        "x-wattos-cost-nusd": "156000",
    }


def test_price_is_taken_from_the_price_file_or_left_out(gateway: Gateway) -> None:
    """A known model costs what the price file says; an unknown one has no cost header at all."""
    gateway.upstream.on("gpt-4o-mini", answers(usage=(1_000_000, 1)))
    assert gateway.ask("known").headers["x-wattos-cost-nusd"] == str(150_000_000 + 600)
    assert "x-wattos-cost-nusd" not in gateway.ask("free").headers


@pytest.mark.requirement("RES-3")
def test_chat_falls_back_when_the_first_target_is_unreachable(gateway: Gateway) -> None:
    """The client sees the alias it asked for, and in the headers who answered."""
    response = gateway.ask("backed")
    assert (response.status_code, response.json()["model"]) == (200, "backed")
    assert response.headers["x-wattos-target"] == "openai/spare"
    assert response.headers["x-wattos-attempts"] == "2"


def test_retry_after_of_the_upstream_reaches_the_client(gateway: Gateway) -> None:
    """Defect 13: 429 with the header, in OpenAI's shape, so that its SDK waits as asked."""
    gateway.upstream.on("gpt", fails(429, retry_after="17"))
    response = gateway.ask("chat")
    assert (response.status_code, response.headers["retry-after"]) == (429, "17")
    assert error_of(response)["type"] == "rate_limit_error"
    with pytest.raises(openai.RateLimitError) as limited:
        gateway.openai().chat.completions.create(model="chat", messages=[{"role": "user", "content": "x"}])
    assert limited.value.response.headers["retry-after"] == "17"


def test_upstreams_400_is_the_clients(gateway: Gateway) -> None:
    """Its own words come back, as a 400."""
    gateway.upstream.on("gpt", fails(400, "temperature must be below 2"))
    response = gateway.ask("chat")
    assert response.status_code == 400
    assert error_of(response)["code"] == "upstream_rejected"
    assert "temperature must be below 2" in str(error_of(response)["message"])


def test_upstreams_401_is_never_the_clients(gateway: Gateway) -> None:
    """A refused key of ours is a bad gateway: the client's own key is fine."""
    gateway.upstream.on("gpt", fails(401))
    assert gateway.ask("chat").status_code == 502


def test_all_targets_failed_is_503_with_their_names(gateway: Gateway) -> None:
    """What was tried is said."""
    gateway.upstream.on("doomed-1", fails(401))
    gateway.upstream.on("doomed-2", fails(401))
    response = gateway.ask("doomed")
    assert response.status_code == 503
    assert error_of(response)["code"] == "all_targets_failed"
    assert "openai/doomed-1" in str(error_of(response)["message"])


def test_official_client_streams_with_usage_and_cost(gateway: Gateway) -> None:
    """`include_usage` gives OpenAI's last chunk, with `x_wattos.cost_nusd` beside it."""
    gateway.upstream.on("gpt", answers("Hello world", usage=(1_000, 10)))
    stream = gateway.openai().chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "x"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "Hello world"
    assert {c.model for c in chunks} == {"chat"}
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 1_010
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["x_wattos"] == {"cost_nusd": 156_000}


def test_usage_is_hidden_from_streams_that_did_not_ask(gateway: Gateway) -> None:
    """It is asked upstream all the same."""
    with gateway.http() as client:
        body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            seen = events(response)
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-wattos-target"] == "openai/gpt"
    assert seen[-1] == "[DONE]"
    assert not any("usage" in event for event in seen)
    assert gateway.upstream.requests[0].body["stream_options"] == {"include_usage": True}


def test_first_bytes_reach_the_client_while_the_upstream_holds_the_rest(gateway: Gateway) -> None:
    """Defect 1: bytes are passed on as they come."""
    gateway.upstream.on("gpt", answers("Hello world", hold_after=2))
    stream = gateway.openai().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "x"}], stream=True
    )
    text = ""
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if text == "Hello ":
            assert not gateway.upstream.requests[0].answered
            gateway.upstream.release()
    assert text == "Hello world"


@pytest.mark.requirement("RES-3")
def test_stream_falls_back_silently_before_the_first_token(gateway: Gateway) -> None:
    """One role, one text, one `[DONE]`."""
    gateway.upstream.on("doomed-1", answers("wrong", die_after=0))
    gateway.upstream.on("doomed-2", answers("right"))
    seen = gateway.ask("doomed", stream=True)
    lines = events(seen)
    assert seen.headers["x-wattos-attempts"] == "2"
    assert "".join(json.loads(e)["choices"][0]["delta"].get("content") or "" for e in lines[:-1]) == "right"
    assert lines[-1] == "[DONE]"


def test_stream_that_breaks_ends_with_one_error_event_and_no_done(gateway: Gateway) -> None:
    """Defect 12: never bare, never a false finish, never the text of another target behind it."""
    gateway.upstream.on("doomed-1", answers("Hello world", die_after=2))
    seen = gateway.ask("doomed", stream=True)
    *chunks, last = [json.loads(event) for event in events(seen)]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "Hello "
    assert last["error"]["code"] == "upstream_unavailable"
    assert not any("error" in chunk for chunk in chunks)
    assert not gateway.upstream.to("doomed-2")
    with pytest.raises(openai.APIError):
        list(
            gateway.openai().chat.completions.create(
                model="doomed", messages=[{"role": "user", "content": "x"}], stream=True
            )
        )


def test_error_before_a_stream_begins_has_a_status(gateway: Gateway) -> None:
    """As long as nothing was sent, a stream fails like any call."""
    gateway.upstream.on("gpt", fails(429, retry_after="3"))
    response = gateway.ask("chat", stream=True)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


def test_leaving_a_stream_closes_the_upstreams_connection(gateway: Gateway) -> None:
    """Defect 11: within a second."""
    gateway.upstream.on("gpt", answers("Hello world", hold_after=2))
    with gateway.http() as client:
        body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
    left_s = time.monotonic()
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s)
    assert (gateway.upstream.requests[0].left_at_s or 0) - left_s < LEAVING_S


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_before_the_answer_closes_the_upstreams_connection(gateway: Gateway, stream: bool) -> None:
    """Defect 11, plain calls and streams without a token yet (4.4 s at LiteLLM's proxy 1.106.2)."""
    upstream = gateway.upstream
    upstream.on("gpt", hangs)
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {gateway.key}"}, timeout=30) as client:
        body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": stream}
        calling = asyncio.create_task(client.post(f"{gateway.server.url}/v1/chat/completions", json=body))
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    left_s = time.monotonic()
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests[0].left_at_s)
    assert (upstream.requests[0].left_at_s or 0) - left_s < LEAVING_S
    async with asyncio.timeout(LEAVING_S):  # the log is written by a thread of its own
        while '"statusCode":499' not in gateway.server.log.read_text():  # noqa: ASYNC110  # another process's file
            await asyncio.sleep(0.01)


def test_official_client_gets_tools_and_choices(gateway: Gateway) -> None:
    """`n`, `tools`, `tool_choice` and `response_format` pass; so does a field that only the target knows."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    gateway.upstream.on("gpt", answers(message={"content": None, "tool_calls": [call]}, n=2))
    done = gateway.openai().chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "x"}],
        n=2,
        tools=[TOOL],  # type: ignore[list-item]
        tool_choice="required",
        response_format={"type": "json_object"},
        extra_body={"min_p": 0.5},
    )
    assert len(done.choices) == 2
    assert done.choices[1].message.tool_calls is not None
    assert done.choices[1].message.tool_calls[0].id == "call_1"
    sent = gateway.upstream.requests[0].body
    assert (sent["n"], sent["tools"], sent["tool_choice"]) == (2, [TOOL], "required")
    assert (sent["response_format"], sent["min_p"]) == ({"type": "json_object"}, 0.5)


def test_client_cannot_choose_address_or_key(gateway: Gateway) -> None:
    """What litellm would take as arguments stays in the body."""
    evil = {"api_base": "http://127.0.0.1:9", "base_url": "http://127.0.0.1:9", "api_key": "x", "timeout": 0.000001}
    evil |= {"mock_response": "mocked", "custom_llm_provider": "anthropic", "num_retries": 9}
    response = gateway.ask("chat", **evil)
    assert response.json()["choices"][0]["message"]["content"] == "pong"
    assert gateway.upstream.requests[0].headers["authorization"].endswith("upstream-test-credential")


def test_our_extensions_never_reach_a_target(gateway: Gateway) -> None:
    """`cache` and `retrieval` are between the client and us."""
    gateway.ask("chat", cache={"mode": "off"}, retrieval={"max_results": 3}, vector_store_ids=[])
    assert not {"cache", "retrieval", "vector_store_ids"} & gateway.upstream.requests[0].body.keys()


def test_identical_request_is_a_hit_for_its_own_tenant_alone(gateway: Gateway) -> None:
    """Defect 5: with `cache: readwrite` the second call is answered from the cache; another tenant's is not."""
    gateway.upstream.on("gpt", answers("first"), answers("second"))
    other = gateway.server.make_key("two")
    wish = {"cache": {"mode": "readwrite"}, "seed": 41}
    one, two = gateway.ask("chat", **wish), gateway.ask("chat", **wish)
    assert [r.headers["x-wattos-cache"] for r in (one, two)] == ["miss", "hit"]
    assert one.content == two.content
    assert two.headers["x-wattos-cost-nusd"] == "0"
    theirs = gateway.ask("chat", key=other, **wish)
    assert theirs.headers["x-wattos-cache"] == "miss"
    assert theirs.json()["choices"][0]["message"]["content"] == "second"


def test_cache_is_off_unless_asked_for(gateway: Gateway) -> None:
    """Two equal requests are two calls."""
    assert [gateway.ask("chat").headers["x-wattos-cache"] for _ in range(2)] == ["off", "off"]
    assert len(gateway.upstream.requests) == 2
