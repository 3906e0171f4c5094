"""Chains over real sockets: who is asked, how often, with what, and what a client sees of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from app.errors import (
    AllTargetsFailed,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from app.llm.answers import Streamed
from app.llm.model import Events
from app.llm.transports.bridge import BridgeTransport
from plugins.contract.errors import CircuitOpen
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.app.llm.support import LITELLM_WARNS, asking, chain_of, embedding, plan, target, text_of
from upstream import Upstream, answers, dies, dies_after_head, embeds, fails, refused_url, says

pytestmark = LITELLM_WARNS


def resilient(**settings: int) -> ResilientGuard:
    """The real guard, waiting no time at all between retries."""
    given = ResilienceSettings(**{"retry_initial_delay": 0, "retry_max_delay": 0, **settings})
    return ResilientGuard(given.breaker, given.retry)


async def read(streamed: Streamed) -> list[Events]:
    return [chunk async for chunk in streamed.pieces]


async def test_chain_falls_back_when_a_connection_is_refused(upstream: Upstream, bridge: BridgeTransport) -> None:
    """The next target is tried at once; attempts are counted and the target that answered is named."""
    upstream.on("good", answers("here", usage=(1_000, 10)))
    done = await chain_of(bridge).complete(asking(), plan(target(refused_url(), "dead"), target(upstream, "good")))
    assert (done.target.id, done.attempts, done.cost_nusd) == ("openai/good", 2, 156_000)
    assert msgspec.json.decode(done.reply.body)["choices"][0]["message"]["content"] == "here"


async def test_each_target_gets_its_own_model_and_parameters(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 2: nothing of the first target reaches the second."""
    upstream.on("first", fails(503))
    one = target(upstream, "first", api_key="of-the-first", temperature=0.1)
    two = target(upstream, "second", api_key="of-the-second", max_tokens=5)
    await chain_of(bridge).complete(asking(), plan(one, two))
    sent = [
        (r.body["model"], r.headers["authorization"], r.body.get("temperature"), r.body.get("max_tokens"))
        for r in upstream.requests
    ]
    assert sent == [("first", "Bearer of-the-first", 0.1, None), ("second", "Bearer of-the-second", None, 5)]


@pytest.mark.parametrize("status", [400, 422])
async def test_chain_ends_when_a_target_says_that_the_request_is_wrong(
    upstream: Upstream, bridge: BridgeTransport, status: int
) -> None:
    """Defect 13: a 400 does not fall through to the next vendor."""
    upstream.on("first", fails(status))
    with pytest.raises(UpstreamRejected):
        await chain_of(bridge).complete(asking(), plan(target(upstream, "first"), target(upstream, "second")))
    assert not upstream.to("second")


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
async def test_chain_moves_on_when_a_target_fails(upstream: Upstream, bridge: BridgeTransport, status: int) -> None:
    """A refused key, an unknown model, a limit and an outage are this target's alone."""
    upstream.on("first", fails(status))
    done = await chain_of(bridge).complete(asking(), plan(target(upstream, "first"), target(upstream, "second")))
    assert (done.target.id, done.attempts) == ("openai/second", 2)


async def test_only_target_fails_with_its_own_error(upstream: Upstream, bridge: BridgeTransport) -> None:
    """A chain of one hides nothing: 401 is the operator's, 429 comes with its Retry-After."""
    upstream.on("first", fails(401), fails(429, retry_after="12"))
    with pytest.raises(UpstreamMisconfigured):
        await chain_of(bridge).complete(asking(), plan(target(upstream, "first")))
    with pytest.raises(UpstreamRateLimited) as failed:
        await chain_of(bridge).complete(asking(), plan(target(upstream, "first")))
    assert failed.value.retry_after_s == 12


async def test_all_failed_names_each_target_and_the_shortest_wait(upstream: Upstream, bridge: BridgeTransport) -> None:
    """What was tried and how it failed, without addresses."""
    upstream.on("first", fails(429, retry_after="30"))
    upstream.on("second", fails(429, retry_after="5"))
    targets = [target(upstream, "first"), target(upstream, "second"), target(refused_url(), "third")]
    with pytest.raises(AllTargetsFailed) as failed:
        await chain_of(bridge).complete(asking(), plan(*targets))
    assert failed.value.retry_after_s == 5
    assert "openai/first (upstream_rate_limited)" in failed.value.message
    assert "openai/third (upstream_unavailable)" in failed.value.message
    assert "127.0.0.1" not in failed.value.message


async def test_cost_is_unknown_when_the_price_is(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 3: no cost is better than a wrong one. Tokens that the target does not count are counted here."""
    upstream.on("silent", answers("four words at least", usage=None))
    chain = chain_of(bridge)
    assert (await chain.complete(asking(), plan(target(upstream, "good", price=None)))).cost_nusd is None
    assert (await chain.complete(asking(), plan(target(upstream, "silent")))).cost_nusd == 5 * 150 + 4 * 600


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(dies, id="before a byte"),
        pytest.param(dies_after_head, id="after the head"),
        pytest.param(answers("Hello", die_after=0), id="after the role"),
        pytest.param(fails(500), id="with status 500"),
        pytest.param(says("", kind="text/event-stream"), id="with an empty stream"),
    ],
)
async def test_stream_falls_back_silently_before_the_first_token(
    upstream: Upstream, bridge: BridgeTransport, script: object
) -> None:
    """A client sees one stream from its role to its finish, whichever target began one before."""
    upstream.on("first", script)  # type: ignore[arg-type]
    upstream.on("second", answers("Hello world"))
    streamed = await chain_of(bridge).stream(
        asking(stream=True), plan(target(upstream, "first"), target(upstream, "second"))
    )
    chunks = await read(streamed)
    assert (streamed.target.id, streamed.attempts, text_of(chunks)) == ("openai/second", 2, "Hello world")
    assert sum(b'"role"' in chunk.wire for chunk in chunks) == 1


async def test_stream_never_falls_back_after_the_first_token(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 12: what was said is not said again by another target; the iterator raises."""
    upstream.on("first", answers("Hello world", die_after=2))
    streamed = await chain_of(bridge).stream(
        asking(stream=True), plan(target(upstream, "first"), target(upstream, "second"))
    )
    chunks: list[Events] = []

    async def keep() -> None:
        async for chunk in streamed.pieces:
            chunks.append(chunk)

    with pytest.raises(UpstreamUnavailable):
        await keep()
    assert text_of(chunks) == "Hello "
    assert not upstream.to("second")


async def test_stream_is_not_tried_again_after_the_first_token(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Bytes have gone to the client: the last target, which is retried before them, is asked once."""
    upstream.on("only", answers("Hello world", die_after=0), answers("Hello world", die_after=2))
    streamed = await chain_of(bridge, resilient()).stream(asking(stream=True), plan(target(upstream, "only")))
    assert (streamed.attempts, len(upstream.to("only"))) == (2, 2)
    with pytest.raises(UpstreamUnavailable):
        await read(streamed)
    assert len(upstream.to("only")) == 2


async def test_chunks_come_while_the_target_still_holds_the_rest(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 1: a stream is not a finished answer, replayed."""
    upstream.on("gpt", answers("Hello world", hold_after=1))
    streamed = await chain_of(bridge).stream(asking(stream=True), plan(target(upstream, "gpt")))
    early = [await anext(streamed.pieces), await anext(streamed.pieces)]
    assert text_of(early) == "Hel"
    assert not upstream.requests[0].answered
    upstream.release()
    assert text_of(early + await read(streamed)) == "Hello world"


async def test_leaving_a_stream_closes_the_targets_connection(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 11, through the chain."""
    upstream.on("gpt", answers("Hello world", hold_after=1))
    streamed = await chain_of(bridge).stream(asking(stream=True), plan(target(upstream, "gpt")))
    async with aclosing(streamed.pieces):  # type: ignore[type-var]
        await anext(streamed.pieces)
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests[0].left_at_s, 1.0)


async def test_breaker_keeps_calls_from_a_dead_target(upstream: Upstream, bridge: BridgeTransport) -> None:
    """Defect 13: after five failures in a row nothing reaches it, and refused calls are no attempts."""
    upstream.on("dead", fails(503))
    chain = chain_of(bridge, resilient())
    targets = [target(upstream, "dead"), target(upstream, "good")]
    attempts = [(await chain.complete(asking(), plan(*targets))).attempts for _ in range(8)]
    assert attempts == 5 * [2] + 3 * [1]
    assert len(upstream.to("dead")) == 5
    with pytest.raises(CircuitOpen) as refused:
        await chain.complete(asking(), plan(*targets[:1]))
    assert refused.value.retry_after_s is not None


async def test_breaker_stays_closed_when_requests_are_wrong(upstream: Upstream, bridge: BridgeTransport) -> None:
    """A client with bad requests cannot take a target from the others."""
    upstream.on("gpt", *[fails(400)] * 6, answers())
    chain = chain_of(bridge, resilient())
    parts = [{"type": "file", "file": 5}]
    for _ in range(6):
        with pytest.raises(UpstreamRejected):
            await chain.complete(asking(), plan(target(upstream, "gpt")))
        with pytest.raises(UpstreamRejected):
            await chain.complete(asking(messages=[{"role": "user", "content": parts}]), plan(target(upstream, "gpt")))
    assert (await chain.complete(asking(), plan(target(upstream, "gpt")))).attempts == 1


async def test_retries_are_for_the_last_target_that_is_left(upstream: Upstream, bridge: BridgeTransport) -> None:
    """The first is asked once; the last up to RETRY_MAX_ATTEMPTS times. All of them count."""
    upstream.on("first", fails(503))
    upstream.on("last", fails(503), fails(503), answers())
    done = await chain_of(bridge, resilient()).complete(
        asking(), plan(target(upstream, "first"), target(upstream, "last"))
    )
    assert (len(upstream.to("first")), len(upstream.to("last")), done.attempts) == (1, 3, 4)


async def test_embeddings_fall_back(upstream: Upstream, bridge: BridgeTransport) -> None:
    """The same chain serves them."""
    upstream.on("vec", embeds(usage=(1_000, 0)))
    done = await chain_of(bridge).embed(embedding("a"), plan(target(refused_url(), "dead"), target(upstream, "vec")))
    assert (done.target.id, done.attempts, done.cost_nusd) == ("openai/vec", 2, 150_000)
