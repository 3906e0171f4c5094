"""The bridge when a vendor fails: whose fault it is, and that nothing broken is taken for whole."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing

import msgspec
import pytest

from app.errors import (
    ContextTooLong,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.llm.model import Events, Target, Timeouts
from app.llm.transports.bridge import BridgeTransport
from plugins.contract.errors import RetryableError, WattosError
from unit.app.llm.support import LITELLM_WARNS, VENDORS, asking, target, text_of
from upstream import (
    Upstream,
    answers,
    dies,
    dies_after_head,
    fails,
    hangs,
    refused_url,
    says,
    trickles,
    unanswered_url,
)

pytestmark = LITELLM_WARNS

CHUNK = (
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    '[{"index":0,"delta":{"content":"Grüße 😀"},"finish_reason":%s}]}\n\n'
)


async def gather(bridge: BridgeTransport, at: Target, *, include_usage: bool = False) -> list[Events]:
    return [chunk async for chunk in bridge.stream(at, asking(stream=True, include_usage=include_usage))]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamRejected),
        (413, UpstreamRejected),
        (422, UpstreamRejected),
        (401, UpstreamMisconfigured),
        (402, UpstreamMisconfigured),
        (403, UpstreamMisconfigured),
        (404, UpstreamMisconfigured),
        (408, UpstreamTimeout),
        (429, UpstreamRateLimited),
        (500, UpstreamUnavailable),
        (502, UpstreamUnavailable),
        (503, UpstreamUnavailable),
        (529, UpstreamUnavailable),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_status_says_whose_fault_it_is(
    upstream: Upstream, bridge: BridgeTransport, status: int, kind: type[WattosError], stream: bool
) -> None:
    """Ours, the request's, or the target's; one attempt is one request. The upstream's Retry-After is kept."""
    upstream.on("gpt", fails(status, "some reason", retry_after="7"))
    with pytest.raises(kind) as failed:
        await (
            gather(bridge, target(upstream, "gpt")) if stream else bridge.complete(target(upstream, "gpt"), asking())
        )
    assert len(upstream.requests) == 1
    if isinstance(failed.value, RetryableError) and not isinstance(failed.value, UpstreamTimeout):
        assert failed.value.retry_after_s == 7


@pytest.mark.parametrize("given", ["soon", "inf", "nan", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
async def test_retry_after_is_ignored_when_it_is_no_number(
    upstream: Upstream, bridge: BridgeTransport, given: str
) -> None:
    """A header that cannot be used is as good as none."""
    upstream.on("gpt", fails(429, retry_after=given))
    with pytest.raises(UpstreamRateLimited) as failed:
        await bridge.complete(target(upstream, "gpt"), asking())
    assert failed.value.retry_after_s is None


async def test_context_that_is_too_long_is_told_apart(upstream: Upstream, bridge: BridgeTransport) -> None:
    """OpenAI's own code for it."""
    upstream.on("gpt", fails(400, "maximum context length is 8 tokens", code="context_length_exceeded"))
    with pytest.raises(ContextTooLong):
        await bridge.complete(target(upstream, "gpt"), asking())


async def test_message_of_an_upstream_shows_no_address_and_no_key(upstream: Upstream, bridge: BridgeTransport) -> None:
    """A vendor's words may quote what it was sent."""
    upstream.on("gpt", fails(400, "bad key sk-abcdefgh123456 at http://10.0.0.7/internal: temperature is odd"))
    with pytest.raises(UpstreamRejected) as failed:
        await bridge.complete(target(upstream, "gpt"), asking())
    assert "temperature is odd" in failed.value.message
    assert "sk-abc" not in failed.value.message
    assert "10.0.0.7" not in failed.value.message


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(dies, id="dies before a byte"),
        pytest.param(says("<html>oops</html>"), id="HTML"),
        pytest.param(says("{}"), id="an empty object"),
        pytest.param(says("[]"), id="a list"),
        pytest.param(says('{"choices": []}'), id="no choices"),
    ],
)
async def test_target_is_unavailable_when_its_answer_is_none(
    upstream: Upstream, bridge: BridgeTransport, script: object
) -> None:
    """Garbage with status 200 is the target's failure: the next one may do better."""
    upstream.on("gpt", script)  # type: ignore[arg-type]
    with pytest.raises(UpstreamUnavailable):
        await bridge.complete(target(upstream, "gpt"), asking())


async def test_target_is_unavailable_when_litellm_stumbles_over_its_answer(
    upstream: Upstream, bridge: BridgeTransport
) -> None:
    """An answer of an unknown shape is no fault of the request, whatever exception litellm makes of it."""
    upstream.on("llama", says('{"nothing": "known"}'))
    at = msgspec.structs.replace(target(upstream, "llama"), provider_model="ollama_chat/llama")
    with pytest.raises(UpstreamError):
        await bridge.complete(at, asking())
    assert len(upstream.requests) == 1


async def test_target_is_unavailable_when_nobody_listens(bridge: BridgeTransport) -> None:
    """A refused connection."""
    with pytest.raises(UpstreamUnavailable):
        await bridge.complete(target(refused_url(), "gpt"), asking())


async def test_target_times_out_by_its_own_setting(upstream: Upstream, bridge: BridgeTransport) -> None:
    """`timeout` of litellm_params, in seconds."""
    upstream.on("gpt", hangs)
    for call in (
        bridge.complete(target(upstream, "gpt", timeout=0.2), asking()),
        gather(bridge, target(upstream, "gpt", timeout=0.2)),
    ):
        with pytest.raises(UpstreamTimeout):
            await call


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(dies, "", id="before a byte"),
        pytest.param(dies_after_head, "", id="after the head"),
        pytest.param(answers("Hello world", die_after=0), "", id="after the role"),
        pytest.param(answers("Hello world", die_after=2), "Hello ", id="after two chunks"),
        pytest.param(trickles(CHUNK % "null", 0), "Grüße 😀", id="a clean end without a finish"),
        pytest.param(trickles(CHUNK % "null" + 'data: {"id":"c","obj', 0), "Grüße 😀", id="half an event"),
        pytest.param(trickles('data: {"error": {"message": "overloaded"}}\n\n', 0), "", id="an error event"),
        pytest.param(
            trickles(CHUNK % "null" + 'data: {"error": {"message": "overloaded"}}\n\n', 0),
            "Grüße 😀",
            id="an error event after a chunk",
        ),
    ],
)
@pytest.mark.parametrize("provider", VENDORS)
async def test_stream_that_breaks_off_is_never_taken_for_a_finished_one(
    upstream: Upstream, bridge: BridgeTransport, script: object, text: str, provider: str
) -> None:
    """Defect 12. litellm 1.106.2 ends such a stream with a `finish_reason: stop` of its own making."""
    upstream.on("gpt", script)  # type: ignore[arg-type]
    chunks: list[Events] = []

    async def read() -> None:
        async for chunk in bridge.stream(target(upstream, "gpt", vendor=provider), asking(stream=True)):
            chunks.append(chunk)

    with pytest.raises(UpstreamError):
        await read()
    assert text_of(chunks) == text
    assert not any(b'"stop"' in chunk.wire for chunk in chunks)


@pytest.mark.parametrize("provider", VENDORS)
async def test_silence_in_the_middle_of_a_stream_is_a_time_out(
    upstream: Upstream, bridge: BridgeTransport, provider: str
) -> None:
    """However litellm dresses it up: the target stopped talking."""
    upstream.on("gpt", answers("Hello world", hold_after=2))
    with pytest.raises(UpstreamTimeout):
        await gather(bridge, target(upstream, "gpt", vendor=provider, timeout=0.2))


async def test_connecting_has_a_time_out_of_its_own(bridge: BridgeTransport) -> None:
    """A host that answers nothing at all is given up long before the answer's time-out."""
    with unanswered_url() as url:
        at = msgspec.structs.replace(target(url, "gpt"), timeouts=Timeouts(connect_s=0.2, total_s=60))
        async with asyncio.timeout(10):
            with pytest.raises(UpstreamTimeout):
                await bridge.complete(at, asking())


async def test_litellms_advice_on_its_settings_is_not_passed_on(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Which parameter the target does not take is said; how litellm would be told to drop it is not."""
    at = target(upstream, "claude-3-5-haiku-latest", vendor="anthropic")
    with pytest.raises(UpstreamRejected) as refused:
        await bridge.complete(at, asking(logit_bias={"1": 2}))
    assert "logit_bias" in refused.value.message
    assert "drop" not in refused.value.message


@pytest.mark.parametrize("provider", VENDORS)
async def test_closing_a_stream_closes_the_targets_connection(
    upstream: Upstream, bridge: BridgeTransport, provider: str
) -> None:
    """Defect 11: nobody generates for a client that has left."""
    upstream.on("gpt", answers("Hello world", hold_after=1))
    stream = bridge.stream(target(upstream, "gpt", vendor=provider), asking(stream=True))
    async with aclosing(stream) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            if chunk.is_token:
                break
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests[0].left_at_s, 1.0)


async def test_cancelling_a_plain_call_closes_the_targets_connection(
    upstream: Upstream, bridge: BridgeTransport
) -> None:
    """Cancellation reaches the socket."""
    upstream.on("gpt", hangs)
    calling = asyncio.create_task(bridge.complete(target(upstream, "gpt"), asking()))
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests[0].left_at_s, 1.0)


async def test_target_is_misconfigured_when_its_vendor_is_unknown(upstream: Upstream, bridge: BridgeTransport) -> None:
    """A model without a vendor that litellm knows is the operator's mistake: no client is told that it is his."""
    at = msgspec.structs.replace(target(upstream, "x"), provider_model="nobody-knows-this")
    with pytest.raises(UpstreamMisconfigured):
        await bridge.complete(at, asking())


async def test_target_is_misconfigured_when_it_has_no_key(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 13: a missing key is not an internal error. (No key of a vendor is in the environment of the tests.)"""
    assert "OPENAI_API_KEY" not in os.environ
    at = target(upstream, "gpt")
    at = msgspec.structs.replace(at, params={"api_base": upstream.url})
    with pytest.raises(UpstreamMisconfigured):
        await bridge.complete(at, asking())


async def test_request_is_at_fault_when_litellm_stumbles_over_it(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Malformed parts that get past our checks are no failure of the target: they must not open its breaker."""
    parts = [{"type": "file", "file": 5}]
    with pytest.raises(UpstreamRejected):
        await bridge.complete(target(upstream, "gpt"), asking(messages=[{"role": "user", "content": parts}]))
    assert not upstream.requests
