"""What a chain counts, logs and gives up on, with transports made to order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from app.errors import UpstreamTimeout, UpstreamUnavailable
from app.llm.chain import Chain
from app.llm.model import Call, Events, Reply, Target, Timeouts, Usage
from app.llm.prices import Price
from plugins.contract.nulls import NullGuard
from unit.app.llm.support import asking, plan
from unit.plugins.harness import RecordingMeter

PRICE = Price(
    input_nusd_per_mtok=10**15, output_nusd_per_mtok=0
)  # $1 a token: the recording meter counts whole dollars
USAGE = Usage(input_tokens=7, output_tokens=3)
SECRET = "what nobody may read in a log"  # not a password: a prompt


class Scripted:
    """Sends `chunks`, then raises `failing`, or hangs where it finds None among them."""

    def __init__(self, *chunks: Events | None, failing: Exception | None = None) -> None:
        self._chunks = chunks
        self._failing = failing
        self.closed = 0

    async def complete(self, target: Target, call: Call) -> Reply:
        async for _ in self.stream(target, call):
            pass
        return Reply(body=b"{}", usage=USAGE)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        try:
            for chunk in self._chunks:
                if chunk is None:
                    await asyncio.Event().wait()
                else:
                    yield chunk
            if self._failing:
                raise self._failing
        finally:
            self.closed += 1


def token(text: str = "hi", usage: Usage | None = None) -> Events:
    return Events(wire=text.encode(), usage=usage)


def target(name: str = "one", **timeouts_s: float) -> Target:
    return Target(
        id=name, alias="a", provider_model=name, transport="bridge", price=PRICE, timeouts=Timeouts(**timeouts_s)
    )


def chain_of(transport: Scripted) -> tuple[Chain, RecordingMeter]:
    meter = RecordingMeter()
    return Chain(
        transports={"chat/completions": {"bridge": transport}}, embedding={}, guard=NullGuard(), meter=meter
    ), meter


async def read(chain: Chain, targets: Sequence[Target]) -> list[bytes]:
    streamed = await chain.stream(asking(stream=True), plan(*targets))
    return [chunk.wire async for chunk in streamed.pieces]


async def test_whole_answer_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    """Calls, tokens, dollars, duration; one log line with the trail, and nothing of what was said."""
    chain, meter = chain_of(Scripted())
    with caplog.at_level(logging.INFO, "llm"):
        await chain.complete(asking(user=SECRET), plan(target()))
    assert meter.total == {
        ("llm_calls_total", "one", "ok"): 1,
        ("llm_tokens_total", "one", "input"): 7,
        ("llm_tokens_total", "one", "output"): 3,
        ("llm_cost_usd", "one"): 7,
        ("llm_call_duration_ms", "one"): 1,
    }
    (line,) = [record for record in caplog.records if record.getMessage() == "model call"]
    told: dict[str, object] = line.llm  # type: ignore[attr-defined]
    assert told.pop("durationMs") is not None
    counted = {"inputTokens": 7, "outputTokens": 3, "costNusd": 7 * 10**9}
    assert told == {"target": "one", "attempts": 1, "outcome": "ok", **counted}
    assert SECRET not in str([record.__dict__ for record in caplog.records])


async def test_stream_is_counted_when_it_ends() -> None:
    """Its usage comes last; a chunk that is for us alone is not passed on."""
    chain, meter = chain_of(Scripted(token("a"), token("b"), token("", USAGE)))
    assert await read(chain, [target()]) == [b"a", b"b"]
    assert meter.total["llm_calls_total", "one", "ok"] == 1
    assert meter.total["llm_cost_usd", "one"] == 7


async def test_stream_that_breaks_is_no_success() -> None:
    """After the first token there is no other target, but the failure is counted."""
    chain, meter = chain_of(Scripted(token(), failing=UpstreamUnavailable("gone")))
    with pytest.raises(UpstreamUnavailable):
        await read(chain, [target(), target("two")])
    calls = {key: n for key, n in meter.total.items() if key[0] == "llm_calls_total"}
    assert calls == {("llm_calls_total", "one", "upstream_unavailable"): 1}


async def test_stream_that_is_left_is_cancelled() -> None:
    """The transport is closed at once, and the call is neither success nor failure."""
    transport = Scripted(token(), None)
    chain, meter = chain_of(transport)
    streamed = await chain.stream(asking(stream=True), plan(target()))
    async with aclosing(streamed.pieces) as chunks:  # type: ignore[type-var]
        assert (await anext(chunks)).wire == b"hi"
    assert transport.closed == 1
    assert meter.total["llm_calls_total", "one", "cancelled"] == 1


@pytest.mark.parametrize(
    ("transport", "tried"),
    [
        pytest.param(Scripted(None), {"one", "two"}, id="before the first token"),
        pytest.param(Scripted(Events(wire=b"role", is_token=False), None), {"one", "two"}, id="after the role"),
        pytest.param(Scripted(token(), None), {"one"}, id="after the first token"),
    ],
)
async def test_silence_ends_a_stream_by_the_targets_own_timeouts(transport: Scripted, tried: set[str]) -> None:
    """Before the first token another target is asked; after it the stream fails."""
    chain, meter = chain_of(transport)
    times = {"first_token_s": 0.01, "silence_s": 0.01}
    with pytest.raises(Exception, match=r"upstream_timeout|(did not answer within|said nothing for) 0\.01 s"):
        await read(chain, [target("one", **times), target("two", **times)])
    assert {key[1] for key in meter.total if key[0] == "llm_calls_total"} == tried
    assert transport.closed == len(tried)


async def test_whole_answer_is_waited_for_no_longer_than_the_total() -> None:
    """`timeout` of the configuration."""
    chain, meter = chain_of(Scripted(None))
    with pytest.raises(UpstreamTimeout):
        await chain.complete(asking(), plan(target(total_s=0.01)))
    assert meter.total["llm_calls_total", "one", "upstream_timeout"] == 1
