"""The bridge against a real socket: what reaches the vendor, what comes back, and whose fault a failure is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from app.errors import (
    UpstreamUnavailable,
)
from app.llm.model import Events, Target, Usage
from app.llm.transports.bridge import BridgeTransport
from plugins.contract.errors import WattosError
from unit.app.llm.support import LITELLM_WARNS, VENDORS, asking, embedding, json_of, target, text_of
from upstream import (
    API_KEY,
    Upstream,
    answers,
    embeds,
    fails,
    says,
    trickles,
)

pytestmark = LITELLM_WARNS

CHUNK = (
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    '[{"index":0,"delta":{"content":"Grüße 😀"},"finish_reason":%s}]}\n\n'
)

INJECTED = {
    "api_base": "http://127.0.0.1:9/v1",
    "base_url": "http://127.0.0.1:9/v1",
    "api_key": "of-the-client",
    "mock_response": "mocked",
    "custom_llm_provider": "anthropic",
    "timeout": 0.000001,
    "num_retries": 5,
    "max_retries": 5,
    "extra_body": {"model": "other"},
    "extra_headers": {"x-evil": "1"},
    "headers": {"x-evil": "1"},
    "fallbacks": [{"model": "openai/other"}],
    "model_list": [{}],
    "drop_params": True,
    "organization": "evil",
    "api_version": "evil",
    "input_cost_per_token": 1,
    "metadata": {"a": "b"},
    "client": "evil",
    "acompletion": False,
    "logger_fn": "evil",
    "user_continue_message": {"role": "user", "content": "evil"},
}


async def gather(bridge: BridgeTransport, at: Target, *, include_usage: bool = False) -> list[Events]:
    return [chunk async for chunk in bridge.stream(at, asking(stream=True, include_usage=include_usage))]


async def test_answer_carries_the_alias_and_the_counted_usage(upstream: Upstream, bridge: BridgeTransport) -> None:
    """The model in an answer is the alias that was asked for, whichever target gave it."""
    upstream.on("gpt", answers("Hello", usage=(11, 4)))
    reply = await bridge.complete(target(upstream, "gpt"), asking())
    body = msgspec.json.decode(reply.body)
    assert (body["model"], body["object"]) == ("chat", "chat.completion")
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert reply.usage == Usage(input_tokens=11, output_tokens=4)
    (sent,) = upstream.requests
    assert (sent.path, sent.body["model"]) == ("/v1/chat/completions", "gpt")
    assert sent.headers["authorization"] == f"Bearer {API_KEY}"


async def test_litellm_neither_prices_nor_logs(
    upstream: Upstream, bridge: BridgeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are ours. Its own take a third of its call, for callbacks that nobody has."""
    upstream.on("gpt", answers("Hello", usage=(11, 4)))
    await bridge.complete(target(upstream, "gpt"), asking())  # the first loads litellm
    busy: list[str] = []
    for at in ("cost_calculator.completion_cost", "litellm_core_utils.litellm_logging.Logging.async_success_handler"):
        monkeypatch.setattr(f"litellm.{at}", lambda *_, at=at, **__: busy.append(at))
    reply = await bridge.complete(target(upstream, "gpt"), asking())
    await asyncio.sleep(0.05)  # it logs in a task of its own
    assert busy == []
    assert reply.usage == Usage(input_tokens=11, output_tokens=4)


@pytest.mark.parametrize("provider", VENDORS)
async def test_usage_is_unknown_when_the_target_counts_nothing(
    upstream: Upstream, bridge: BridgeTransport, provider: str
) -> None:
    """Defect 3: neither zeros nor a local guess stand in for what the target did not say."""
    upstream.on("gpt", answers("Hello", usage=None))
    reply = await bridge.complete(target(upstream, "gpt", vendor=provider), asking())
    assert reply.usage is None
    assert "usage" not in msgspec.json.decode(reply.body)
    chunks = await gather(bridge, target(upstream, "gpt", vendor=provider), include_usage=True)
    assert text_of(chunks) == "Hello"
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("provider", VENDORS)
async def test_usage_is_always_asked_for_and_hidden_from_those_who_did_not_ask(
    upstream: Upstream, bridge: BridgeTransport, provider: str
) -> None:
    """We count every stream; the client sees the usage chunk, with its cost, only when it asked."""
    upstream.on("gpt", answers("Hello", usage=(1000, 10)))
    hidden = await gather(bridge, target(upstream, "gpt", vendor=provider))
    shown = await gather(bridge, target(upstream, "gpt", vendor=provider), include_usage=True)
    assert [r.body["stream_options"] for r in upstream.requests] == 2 * [{"include_usage": True}]
    assert hidden[-1] == Events(wire=b"", usage=Usage(input_tokens=1000, output_tokens=10))
    assert not any(b"usage" in chunk.wire for chunk in hidden)
    last = json_of(shown[-1])
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 1010)
    assert "cost" not in last["usage"]  # litellm's own reckoning, in floating dollars
    assert last["x_wattos"] == {"cost_nusd": 150_000 + 6_000}
    assert not any(b'"usage"' in chunk.wire for chunk in shown[:-1])


async def test_stream_survives_being_torn_into_bytes(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Events that arrive a byte at a time, through the middle of characters, come out whole."""
    upstream.on("gpt", trickles(CHUNK % "null" + CHUNK % '"stop"' + "data: [DONE]\n\n", 0.0002))
    assert text_of(await gather(bridge, target(upstream, "gpt"))) == "Grüße 😀Grüße 😀"


async def test_fields_of_the_client_never_become_arguments_of_litellm(
    upstream: Upstream, bridge: BridgeTransport
) -> None:
    """Address, key, vendor and time-out come from the configuration alone: in a body they are fields like any other."""
    upstream.on("gpt", answers("real"))
    reply = await bridge.complete(target(upstream, "gpt"), asking(**INJECTED))
    assert msgspec.json.decode(reply.body)["choices"][0]["message"]["content"] == "real"
    (sent,) = upstream.requests
    assert (sent.path, sent.body["model"]) == ("/v1/chat/completions", "gpt")
    assert sent.headers["authorization"] == f"Bearer {API_KEY}"
    assert not {"x-evil", "openai-organization"} & sent.headers.keys()
    assert len(sent.body["messages"]) == 1


async def test_fields_of_the_client_never_reach_a_vendor_of_another_kind(
    upstream: Upstream, bridge: BridgeTransport
) -> None:
    """Where the vendor does not speak OpenAI's wire, what we do not know is left out."""
    at = msgspec.structs.replace(target(upstream, "claude"), provider_model="anthropic/claude-x")
    upstream.on(
        "claude-x",
        says(
            '{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hi"}],'
            '"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}}'
        ),
    )
    reply = await bridge.complete(at, asking(max_tokens=5, **INJECTED))
    assert reply.usage == Usage(input_tokens=9, output_tokens=2)
    (sent,) = upstream.requests
    assert sent.body.keys() <= {"model", "messages", "max_tokens"}
    assert sent.headers["x-api-key"] == API_KEY


async def test_everything_else_passes_through(upstream: Upstream, bridge: BridgeTransport) -> None:
    """What an OpenAI-like target may know and we do not, and all that it does know, arrives as it was sent."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    fields = {
        "n": 2,
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "seed": 7,
        "temperature": 0.25,
        "stop": ["x"],
        "top_logprobs": 2,
        "logprobs": True,
        "min_p": 0.5,
        "guided_regex": {"deep": [1, {"x": None}]},
        "store": False,
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    upstream.on("gpt", answers(message={"content": None, "tool_calls": [call]}, n=2))
    reply = await bridge.complete(target(upstream, "gpt"), asking(**fields))
    assert {name: upstream.requests[0].body.get(name) for name in fields} == fields
    choices = msgspec.json.decode(reply.body)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert choices[1]["message"]["tool_calls"] == [call]


async def test_parameters_are_left_to_openai_like_targets(upstream: Upstream, bridge: BridgeTransport) -> None:
    """litellm's list of who takes what is older than the vendors' models: it does not decide."""
    fields = {"reasoning_effort": "low", "verbosity": "low", "parallel_tool_calls": True}
    await bridge.complete(target(upstream, "gpt-4o-mini"), asking(**fields))
    assert {name: upstream.requests[0].body.get(name) for name in fields} == fields


async def test_parameters_of_the_configuration_are_defaults(upstream: Upstream, bridge: BridgeTransport) -> None:
    """A target's own `temperature` holds where the client names none, as at LiteLLM's proxy."""
    at = target(upstream, "gpt", temperature=0.1, seed=4)
    await bridge.complete(at, asking(temperature=0.9))
    assert {name: upstream.requests[0].body[name] for name in ("temperature", "seed")} == {
        "temperature": 0.9,
        "seed": 4,
    }


async def test_stream_of_several_choices_finishes_each(upstream: Upstream, bridge: BridgeTransport) -> None:
    """litellm's own rendering ends with the first choice that finishes."""
    part = 'data: {"id":"c","object":"chat.completion.chunk","created":5,"model":"m","choices":[%s]}\n\n'
    one = '{"index":%d,"delta":{"content":"%s"},"finish_reason":%s}'
    said = [(0, "a", "null"), (1, "b", "null"), (0, "c", '"stop"'), (1, "d", '"length"')]
    upstream.on("gpt", trickles("".join(part % (one % each) for each in said) + "data: [DONE]\n\n", 0))
    bodies = [json_of(chunk) for chunk in await gather(bridge, target(upstream, "gpt")) if chunk.wire]
    choices = [choice for body in bodies for choice in body["choices"]]
    got = [(c["index"], c["delta"]["content"], msgspec.json.encode(c["finish_reason"]).decode()) for c in choices]
    assert got == said
    assert {body["created"] for body in bodies} == {5}


async def test_tool_calls_stream(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Deltas of tool calls arrive, and count as tokens."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    upstream.on("gpt", answers("", message={"tool_calls": [call]}))
    chunks = await gather(bridge, target(upstream, "gpt"))
    deltas = [c["delta"] for chunk in chunks if chunk.wire for c in json_of(chunk)["choices"]]
    assert [d["tool_calls"][0]["function"]["name"] for d in deltas if d.get("tool_calls")] == ["look"]


async def test_embeddings_keep_the_order_of_the_texts(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Whatever order the target answers in."""
    upstream.on("vec", embeds(3, usage=(6, 0), shuffled=True))
    vectors = await bridge.embed(target(upstream, "vec"), embedding("a", "bbb", "cc", dimensions=2))
    assert [list(row) for row in vectors.rows] == [[1.0, 0.5], [3.0, 0.5], [2.0, 0.5]]
    assert vectors.usage == Usage(input_tokens=6, output_tokens=0)


async def test_embeddings_are_sent_once(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Retries are the guard's: one attempt is one request."""
    upstream.on("vec", fails(500))
    with pytest.raises(UpstreamUnavailable):
        await bridge.embed(target(upstream, "vec"), embedding("a"))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("text", ['{"data": []}', "{}", '{"data": [{"index": 0}]}', '{"data": 5}', "[]"])
async def test_embeddings_are_refused_when_they_are_none(
    upstream: Upstream, bridge: BridgeTransport, text: str
) -> None:
    """Too few vectors, or something else altogether, is the target's failure."""
    upstream.on("vec", says(text))
    with pytest.raises(UpstreamUnavailable):
        await bridge.embed(target(upstream, "vec"), embedding("a"))


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
@pytest.mark.parametrize("spelled", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "127.1"])
async def test_pictures_are_not_fetched_from_inside(
    upstream: Upstream, bridge: BridgeTransport, provider: str, spelled: str
) -> None:
    """Some vendors get pictures as data, so litellm fetches what a client names: never from this machine or network."""
    port = upstream.url.rpartition(":")[2].partition("/")[0]
    picture = {"type": "image_url", "image_url": {"url": f"http://{spelled}:{port}/inside.png"}}
    messages = [{"role": "user", "content": [picture]}]
    with pytest.raises(WattosError):
        await bridge.complete(target(upstream, "gpt", vendor=provider), asking(messages=messages))
    assert [one.path for one in upstream.requests if "inside" in one.path] == []
