"""Anthropic's own wire, passed through to a vendor on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from anthropic_upstream import USAGE, breaks_with, counts, refuses, says_blocks, text, tool_use
from app.errors import (
    ContentRefused,
    ContextTooLong,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.llm.model import Events, Target, Usage
from app.llm.transports.anthropic import AnthropicTransport
from app.llm.transports.anthropic_events import AnthropicEvents
from app.llm.transports.pool import Pool
from plugins.contract.errors import WattosError
from unit.app.messages.support import asking, read
from upstream import Upstream, dies, refused_url, running_upstream, says, trickles

COUNTED = Usage(input_tokens=127, output_tokens=3, cached_tokens=100, cache_write_tokens=20)


@pytest.fixture(scope="module")
def vendor() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def upstream(vendor: Upstream) -> Upstream:
    vendor.reset()
    return vendor


@pytest.fixture
async def transport() -> AsyncIterator[AnthropicTransport]:
    pool = Pool()
    yield AnthropicTransport(pool.of)
    await pool.close()


def target(url: str, **params: object) -> Target:
    return Target(
        id="claude",
        alias="chat",
        provider_model="anthropic/claude",
        transport="anthropic",
        params={"api_base": url, "api_key": "sk-ant-test", **params},
    )


async def streamed(transport: AnthropicTransport, at: Target, **fields: object) -> list[Events]:
    return [piece async for piece in transport.stream(at, asking(stream=True, **fields))]


def wire_of(pieces: list[Events]) -> bytes:
    return b"".join(piece.wire for piece in pieces)


async def test_whole(upstream: Upstream, transport: AnthropicTransport) -> None:
    """The client's fields with the target's model and our key; the answer under the alias, else as it came."""
    upstream.on("claude", says_blocks(text("Grüße"), tool_use("t1", "weather", town="Köln"), stop_reason="tool_use"))
    asked = asking(system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}], brand_new={"a": [1]})
    reply = await transport.complete(target(upstream.url), asked)
    (received,) = upstream.requests
    assert received.path == "/v1/messages"
    assert received.body == {"model": "claude", **{name: json.loads(bytes(raw)) for name, raw in asked.fields.items()}}
    assert received.headers["x-api-key"] == "sk-ant-test"
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in received.headers
    body = json.loads(reply.body)
    assert (body["model"], body["id"], body["usage"]) == ("chat", "msg_upstream", USAGE)
    assert [block["type"] for block in body["content"]] == ["text", "tool_use"]
    assert reply.usage == COUNTED


async def test_streamed(upstream: Upstream, transport: AnthropicTransport) -> None:
    """Whole events, the alias in the first; announcing an answer is no token; usage at the end."""
    upstream.on("claude", says_blocks(text("Grüße 🎉 aus Köln"), tool_use("t1", "weather", town="Köln")))
    pieces = await streamed(transport, target(upstream.url))
    assert upstream.requests[0].body["stream"] is True
    message = read(wire_of(pieces).replace(b'event: ping\ndata: {"type":"ping"}\n\n', b""))
    assert message["model"] == "chat"
    assert [block.get("text", block.get("input")) for block in message["content"]] == [
        "Grüße 🎉 aus Köln",
        {"town": "Köln"},
    ]
    assert pieces[-1] == Events(wire=b"", usage=COUNTED)
    assert not any(b"text_delta" in piece.wire for piece in pieces if not piece.is_token)


async def test_a_stream_in_single_bytes(upstream: Upstream, transport: AnthropicTransport) -> None:
    """CRLF, comments, missing spaces and data in several lines: what comes out is whole and in one form."""
    events = [
        ': hi\r\nevent:message_start\r\ndata:{"type":"message_start",\r\n'
        'data: "message":{"model":"m","content":[]}}\r\n\r\n',
        'event: content_block_start\ndata: {"type": "content_block_start", "index": 0,'
        ' "content_block": {"type": "text", "text": ""}}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,\n'
        'data: "delta":{"type":"text_delta","text":"ü"}}\n\n',
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        '"usage":{"input_tokens":5,"output_tokens":2}}\n\n',
        'event: message_stop\ndata: {"type":"message_stop"}',
    ]
    upstream.on("claude", trickles("".join(events), delay_s=0))
    pieces = await streamed(transport, target(upstream.url))
    assert read(wire_of(pieces))["content"][0]["text"] == "ü"
    assert pieces[-1].usage == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize("path", ["", "/v1", "/v1/messages", "/v1/"])
async def test_addresses(upstream: Upstream, transport: AnthropicTransport, path: str) -> None:
    """As litellm's configurations write them."""
    upstream.on("claude", says_blocks(text("x")))
    await transport.complete(target(upstream.url.removesuffix("/v1") + path), asking())
    assert upstream.requests[0].path == "/v1/messages"


async def test_what_the_configuration_gives(upstream: Upstream, transport: AnthropicTransport) -> None:
    """Defaults before the request, `extra_body` after it, headers beside ours, betas of both."""
    upstream.on("claude", says_blocks(text("x")))
    params: dict[str, Any] = {
        "temperature": 0.1,
        "top_p": 0.2,
        "extra_body": {"service_tier": "standard_only", "model": "other"},
        "extra_headers": {"anthropic-beta": "one", "x-more": "1"},
    }
    await transport.complete(
        target(upstream.url, **params), asking(temperature=0.9, anthropic_beta=["two", "one", "x\r\ny"])
    )
    received = upstream.requests[0]
    assert {name: received.body[name] for name in ("temperature", "top_p", "service_tier", "model")} == {
        "temperature": 0.9,
        "top_p": 0.2,
        "service_tier": "standard_only",
        "model": "claude",
    }
    assert "anthropic_beta" not in received.body
    assert (received.headers["anthropic-beta"], received.headers["x-more"]) == ("one,two", "1")


async def test_thoughts_of_other_vendors(upstream: Upstream, transport: AnthropicTransport) -> None:
    """Without a signature Anthropic refuses them."""
    upstream.on("claude", says_blocks(text("x")))
    foreign, own = ({"type": "thinking", "thinking": "Hm.", "signature": given} for given in ("", "s"))
    user = {"role": "user", "content": "ping"}
    said = [{"role": "assistant", "content": [foreign, own, text("a")]}, {"role": "assistant", "content": [foreign]}]
    await transport.complete(target(upstream.url), asking(messages=[user, *said, user]))
    sent = upstream.requests[0].body["messages"]
    assert sent == [user, {"role": "assistant", "content": [own, text("a")]}, user]


@pytest.mark.parametrize(
    ("status", "kind", "message", "error"),
    [
        (400, "invalid_request_error", "messages: wrong", UpstreamRejected),
        (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum", ContextTooLong),
        (400, "invalid_request_error", "Output blocked by content filtering policy", ContentRefused),
        (400, "invalid_request_error", "Your credit balance is too low to access the API", UpstreamMisconfigured),
        (413, "request_too_large", "too large", UpstreamRejected),
        (401, "authentication_error", "invalid x-api-key", UpstreamMisconfigured),
        (403, "permission_error", "no", UpstreamMisconfigured),
        (404, "not_found_error", "model: claude", UpstreamMisconfigured),
        (307, "x", "elsewhere", UpstreamMisconfigured),
        (429, "rate_limit_error", "slow down", UpstreamRateLimited),
        (500, "api_error", "oh", UpstreamUnavailable),
        (504, "timeout_error", "late", UpstreamTimeout),
        (529, "overloaded_error", "Overloaded", UpstreamUnavailable),
    ],
)
async def test_errors(
    upstream: Upstream,
    transport: AnthropicTransport,
    status: int,
    kind: str,
    message: str,
    error: type[WattosError],
) -> None:
    """The chain's own words, plain and streamed; how long to wait is kept."""
    upstream.on("claude", refuses(status, kind, message, retry_after="7"))
    for asked in (transport.complete(target(upstream.url), asking()), streamed(transport, target(upstream.url))):
        with pytest.raises(WattosError) as caught:
            await asked
        assert type(caught.value) is error
        if isinstance(caught.value, UpstreamError):
            assert (caught.value.status, caught.value.retry_after_s) == (status, 7.0)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", UpstreamUnavailable),
        ("rate_limit_error", UpstreamRateLimited),
        ("invalid_request_error", UpstreamRejected),
        ("something_new", UpstreamUnavailable),
    ],
)
async def test_errors_in_a_stream(
    upstream: Upstream, transport: AnthropicTransport, kind: str, error: type[WattosError]
) -> None:
    """Raised; by the names of errors, for the status was good."""
    upstream.on("claude", breaks_with(kind, words="Hello"))
    with pytest.raises(WattosError) as caught:
        await streamed(transport, target(upstream.url))
    assert type(caught.value) is error


def test_what_stands_before_an_error() -> None:
    """Lost while another target may still answer; passed on behind what the client has been sent."""
    delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{}}\n\n'
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    with pytest.raises(UpstreamUnavailable):
        AnthropicEvents(target(""), "chat").read(delta + error)
    made = AnthropicEvents(target(""), "chat")
    made.read(delta)
    assert made.error is None
    assert made.read(delta + error) == Events(wire=delta)
    assert isinstance(made.error, UpstreamUnavailable)


@pytest.mark.parametrize("body", ["<html>no</html>", '"x"', "{}", '{"type":"error","error":{"type":"api_error"}}'])
async def test_no_answer_with_status_200(upstream: Upstream, transport: AnthropicTransport, body: str) -> None:
    """Another target may do better."""
    upstream.on("claude", says(body))
    with pytest.raises(UpstreamUnavailable):
        await transport.complete(target(upstream.url), asking())


@pytest.mark.parametrize(
    "body", ["data: <html>\n\n", "data: {}\n\n", "data: [1]\n\n", 'data: {"type":"message_start"}\n\n', ""]
)
async def test_no_stream_with_status_200(upstream: Upstream, transport: AnthropicTransport, body: str) -> None:
    """No events, or none that end an answer."""
    upstream.on("claude", says(body, kind="text/event-stream"))
    with pytest.raises(UpstreamUnavailable):
        await streamed(transport, target(upstream.url))


async def test_broken_off(upstream: Upstream, transport: AnthropicTransport) -> None:
    """Before a byte, in the middle, or by a host that is not there."""
    upstream.on("claude", dies)
    with pytest.raises(UpstreamUnavailable):
        await transport.complete(target(upstream.url), asking())
    upstream.on("claude", says_blocks(text("Hello world"), die_after=2))
    with pytest.raises(UpstreamUnavailable):
        await streamed(transport, target(upstream.url))
    with pytest.raises(UpstreamUnavailable):
        await transport.complete(target(refused_url()), asking())
    with pytest.raises(UpstreamMisconfigured):
        await transport.complete(target("nowhere"), asking())


async def test_left_early(upstream: Upstream, transport: AnthropicTransport) -> None:
    """Closing the events closes the connection."""
    upstream.on("claude", says_blocks(text("Hello world"), hold_after=1))
    events = transport.stream(target(upstream.url), asking(stream=True))
    while b"text_delta" not in (await anext(events)).wire:
        pass  # then it waits at the gate
    await events.aclose()  # type: ignore[attr-defined]  # an async generator, typed as what it is used as
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests[0].left_at_s, 2)


async def test_count_tokens(upstream: Upstream, transport: AnthropicTransport) -> None:
    """At its own address, with the fields that it takes."""
    upstream.on("claude", counts(42))
    asked = asking(system="x", temperature=1, anthropic_beta=["b"])
    assert await transport.count_tokens(target(upstream.url), asked) == 42
    (received,) = upstream.requests
    assert received.path == "/v1/messages/count_tokens"
    assert received.body.keys() == {"model", "messages", "system"}
    assert received.headers["anthropic-beta"] == "b"
    upstream.on("claude", says("{}"))
    with pytest.raises(UpstreamUnavailable):
        await transport.count_tokens(target(upstream.url), asked)
