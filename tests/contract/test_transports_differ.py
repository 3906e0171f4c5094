"""The differential suite: the same calls through `bridge` and `direct`, at the same scripted vendor.

What the vendor got, what the client gets, what is accounted and how it fails are equal, field by field; where they
are not, `tests/transport_comparison.py` says so and why. A provider may be called directly because this suite passes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest

from app.llm.events import payloads
from app.llm.model import Call, EmbeddingCall, Target, Timeouts, Transport, Usage, Vectors
from app.llm.prices import FREE
from app.llm.transports.bridge import BridgeTransport
from app.llm.transports.direct import DirectTransport
from app.llm.transports.pool import Pool
from plugins.contract.errors import WattosError
from transport_cases import CASES, Case
from transport_comparison import Assembled, assembled, differing
from upstream import (
    API_KEY,
    Upstream,
    answers,
    dies,
    dies_after_head,
    embeds,
    fails,
    refused_url,
    running_upstream,
    unanswered_url,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),  # litellm's own types
    pytest.mark.filterwarnings("ignore:Accessing the 'model_.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # fields that OpenAI's SDK has not
]


class NoLocalModel:
    def address(self) -> tuple[str, str]:
        raise AssertionError("no test here calls the local model")


class Both:
    """The two transports, and the vendor in front of which they are compared."""

    def __init__(self, upstream: Upstream, bridge: BridgeTransport, direct: DirectTransport) -> None:
        self.upstream = upstream
        self.bridge = bridge
        self.direct = direct

    def target(self, model: str = "openai/gpt", **times: float) -> Target:
        return self.at(self.upstream.url, model, **times)

    def at(self, url: str, model: str = "openai/gpt", **times: float) -> Target:
        params = {"api_base": url, "api_key": API_KEY}
        timeouts = Timeouts(**times)
        return Target(
            id=model,
            alias="own",
            provider_model=model,
            transport="direct",
            params=params,
            price=FREE,
            timeouts=timeouts,
        )


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
async def both(upstream: Upstream) -> AsyncIterator[Both]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # as cli.py and asgi.py do
    pool = Pool()
    yield Both(upstream, BridgeTransport(NoLocalModel()), DirectTransport(pool.of, NoLocalModel()))
    await pool.close()


@pytest.fixture(autouse=True)
def forgotten(upstream: Upstream) -> None:
    upstream.reset()


def call_of(case: Case, *, stream: bool = False, include_usage: bool = False) -> Call:
    fields = case.sent
    if stream:
        fields["stream"] = msgspec.Raw(b"true")
    if include_usage:
        fields["stream_options"] = msgspec.Raw(b'{"include_usage": true}')
    return Call(alias="asked", fields=fields, stream=stream, include_usage=include_usage)


def received_of(upstream: Upstream) -> dict[str, Any]:
    """What the vendor got last: everything that it acts upon."""
    (last,) = upstream.requests
    kept = ("authorization", "content-type", "openai-organization")
    headers = {name: last.headers.get(name) for name in kept}
    return {"method": last.method, "path": last.path, "body": last.body, "headers": headers}


async def streamed(transport: Transport, target: Target, call: Call) -> tuple[Assembled, list[Usage]]:
    bodies: list[dict[str, Any]] = []
    usages: list[Usage] = []
    async for events in transport.stream(target, call):
        bodies += [msgspec.json.decode(data) for data in payloads(events.wire)]
        usages += [events.usage] if events.usage else []
    return assembled(bodies), usages


async def failed(transport: Transport, target: Target, call: Call) -> dict[str, Any]:
    """The failure's class and what it tells."""

    async def answered() -> None:
        if call.stream:
            await streamed(transport, target, call)
        else:
            await transport.complete(target, call)

    with pytest.raises(WattosError) as raised:
        await answered()
    names = ("status", "retry_after_s", "param", "code", "message")
    return {"class": type(raised.value).__name__, **{name: getattr(raised.value, name, None) for name in names}}


@pytest.mark.parametrize("model", ["openai/gpt", "hosted_vllm/gpt"])
@pytest.mark.parametrize("name", CASES)
async def test_whole_answers_are_the_same(both: Both, name: str, model: str) -> None:
    """What the vendor got; the client's JSON; the tokens."""
    case, target = CASES[name], both.target(model)
    both.upstream.on("gpt", case.answer())
    bridged = await both.bridge.complete(target, call_of(case))
    got_of_bridge = received_of(both.upstream)
    both.upstream.requests.clear()
    direct = await both.direct.complete(target, call_of(case))
    assert differing(received_of(both.upstream), got_of_bridge) == {}
    assert differing(msgspec.json.decode(direct.body), msgspec.json.decode(bridged.body)) == {}
    assert direct.usage == bridged.usage


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("name", CASES)
async def test_streams_are_the_same(both: Both, name: str, include_usage: bool) -> None:
    """Put together, as clients do: each choice's texts, its tools' arguments, its end; and the usage chunk."""
    case, target = CASES[name], both.target()
    both.upstream.on("gpt", case.answer())
    call = call_of(case, stream=True, include_usage=include_usage)
    bridged, bridged_usage = await streamed(both.bridge, target, call)
    got_of_bridge = received_of(both.upstream)
    both.upstream.requests.clear()
    direct, direct_usage = await streamed(both.direct, target, call)
    assert differing(received_of(both.upstream), got_of_bridge) == {}
    assert differing(direct.plain, bridged.plain) == {}
    assert direct.n_usage == (1 if include_usage and case.usage else 0)
    assert direct_usage == bridged_usage


ERRORS: Mapping[str, dict[str, Any]] = {
    "400": {"status": 400, "message": "temperature must be below 2"},
    "400 with an address and a key in it": {
        "status": 400,
        "message": "no such host http://10.0.0.7/v1 for sk-abcdef123",
    },
    "400, too long": {
        "status": 400,
        "message": "maximum context length is 8 tokens",
        "code": "context_length_exceeded",
    },
    "400, refused": {"status": 400, "message": "filtered", "code": "content_filter"},
    "401": {"status": 401, "message": "bad key"},
    "402": {"status": 402, "message": "no funds"},
    "403": {"status": 403, "message": "not allowed"},
    "404": {"status": 404, "message": "no such model", "code": "model_not_found"},
    "408": {"status": 408},
    "409": {"status": 409},
    "413": {"status": 413, "message": "too large"},
    "422": {"status": 422, "message": "n must be 1"},
    "429": {"status": 429, "retry_after": "17"},
    "429, in fractions": {"status": 429, "retry_after": "0.25"},
    "429, a date": {"status": 429, "retry_after": "Wed, 21 Oct 2099 07:28:00 GMT"},
    "429, never": {"status": 429, "retry_after": "inf"},
    "429, out of funds": {"status": 429, "code": "insufficient_quota"},
    "500": {"status": 500},
    "502": {"status": 502},
    "503": {"status": 503, "retry_after": "3"},
    "504": {"status": 504},
    "529": {"status": 529},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_the_same(both: Both, name: str, stream: bool) -> None:
    """Class, status, the time to wait, the field, and the words for the client."""
    both.upstream.on("gpt", fails(**ERRORS[name]))
    call = call_of(CASES["plain text"], stream=stream)
    bridged = await failed(both.bridge, both.target(), call)
    direct = await failed(both.direct, both.target(), call)
    assert differing(direct, bridged) == {}
    assert len(both.upstream.requests) == 2  # one attempt each: retries are the guard's


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_connection_is_the_same(both: Both, stream: bool) -> None:
    """Unavailable, without a status."""
    call = call_of(CASES["plain text"], stream=stream)
    direct = await failed(both.direct, both.at(refused_url()), call)
    bridged = await failed(both.bridge, both.at(refused_url()), call)
    # litellm makes a 500 of its own of it: no vendor said so.
    assert {**direct, "status": None} == {**bridged, "status": None}
    assert (direct["class"], direct["status"]) == ("UpstreamUnavailable", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_host_that_says_nothing_is_the_same(both: Both, stream: bool) -> None:
    """A time-out within the time to connect."""
    call = call_of(CASES["plain text"], stream=stream)
    with unanswered_url() as url:
        async with asyncio.timeout(5):
            direct = await failed(both.direct, both.at(url, connect_s=0.2), call)
            bridged = await failed(both.bridge, both.at(url, connect_s=0.2), call)
    assert direct == bridged
    assert direct["class"] == "UpstreamTimeout"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [dies, dies_after_head, answers("Hello", die_after=2)], ids=["0", "head", "2"])
async def test_a_connection_that_breaks_is_the_same(both: Both, script: Callable[..., Any], stream: bool) -> None:
    """Unavailable, whenever it breaks."""
    if script is dies_after_head and not stream:
        pytest.skip("the head of a stream")
    both.upstream.on("gpt", script)
    call = call_of(CASES["plain text"], stream=stream)
    if script not in {dies, dies_after_head} and not stream:
        pytest.skip("a whole answer has no pieces")
    direct = await failed(both.direct, both.target(), call)
    bridged = await failed(both.bridge, both.target(), call)
    assert direct["class"] == bridged["class"] == "UpstreamUnavailable"


EMBEDDINGS: Mapping[str, EmbeddingCall] = {
    "texts": EmbeddingCall(alias="asked", texts=("a", "bbb", "Grüße 🎉")),
    "tokens": EmbeddingCall(alias="asked", texts=((1, 2, 3), (4,))),
    "a size": EmbeddingCall(alias="asked", texts=("a",), dimensions=7),
    "unknown fields": EmbeddingCall(alias="asked", texts=("a",), extra={"user": msgspec.Raw(b'"u-1"')}),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
async def test_vectors_are_the_same(both: Both, name: str) -> None:
    """What the vendor got, the rows in order, the tokens."""
    both.upstream.on("gpt", embeds(shuffled=True))
    results: list[tuple[dict[str, Any], Vectors]] = []
    for transport in (both.bridge, both.direct):
        vectors = await transport.embed(both.target(), EMBEDDINGS[name])
        results.append((received_of(both.upstream), vectors))
        both.upstream.requests.clear()
    (got_of_bridge, bridged), (got_of_direct, direct) = results
    assert got_of_direct == got_of_bridge
    assert [list(row) for row in direct.rows] == [list(row) for row in bridged.rows]
    assert direct.usage == bridged.usage


async def test_keys_stay_with_the_configuration(both: Both) -> None:
    """Neither transport takes an address, a key or a vendor from a client's fields."""
    evil = {"api_base": "http://127.0.0.1:9", "base_url": "http://127.0.0.1:9", "api_key": "x", "timeout": 1e-6}
    evil |= {"extra_headers": {"authorization": "Bearer x"}, "mock_response": "m", "custom_llm_provider": "anthropic"}
    case = Case(fields=evil)
    both.upstream.on("gpt", case.answer())
    for transport in (both.bridge, both.direct):
        await transport.complete(both.target(), call_of(case))
    assert [one.headers["authorization"] for one in both.upstream.requests] == [f"Bearer {API_KEY}"] * 2
