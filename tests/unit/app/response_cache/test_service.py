"""Equal requests that come at the same time: one is sent, and nobody pays or suffers for another."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest

from app.errors import DeadlineExceeded, UpstreamUnavailable
from app.llm.answers import Completed
from app.llm.caching import CacheWish
from app.llm.model import Call, Plan, Reply, Target
from app.response_cache.service import CachedChain
from plugins.cache.memory import MemoryCache
from plugins.contract.errors import WattosError
from plugins.contract.nulls import NullMeter

TARGET = Target(id="one", alias="a", provider_model="openai/one", transport="direct")
PLAN = Plan(targets=(TARGET,))
KEEP = CacheWish(mode="readwrite")
BODY = b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'
CALLS_TOOL = b'{"choices":[{"message":{"tool_calls":[{}]},"finish_reason":"tool_calls"}]}'


class Answering:
    """A `Chain` that answers when it is told to, or fails."""

    def __init__(self) -> None:
        self.body = BODY
        self.failures: list[WattosError] = []
        self.n_sent = 0
        self.n_cached = 0
        self.n_given_up = 0
        self.go = asyncio.Event()

    async def complete(self, call: Call, plan: Plan) -> Completed:
        self.n_sent += 1
        failure = self.failures.pop() if self.failures else None
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.n_given_up += 1
            raise
        if failure is not None:
            raise failure
        return Completed(reply=Reply(body=self.body, usage=None), target=TARGET, attempts=1, cost_nusd=5)

    def cached(self, call: Call, target_id: str) -> None:
        self.n_cached += 1


@pytest.fixture
def chain() -> Answering:
    return Answering()


@pytest.fixture
def cached(chain: Any) -> CachedChain:
    cache = MemoryCache(max_bytes=1 << 20, max_entry_bytes=1 << 16)
    return CachedChain(chain, cache, state="miss", meter=NullMeter())


def asking(text: str = '"ping"', deadline_s: float | None = None) -> Call:
    fields = {"messages": msgspec.Raw(text.encode())}
    return Call(alias="a", tenant_id=UUID(int=1), fields=fields, deadline_s=deadline_s)


async def settled() -> None:
    """All that can go on has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_equal_requests_at_once_are_sent_once(chain: Answering, cached: CachedChain) -> None:
    """Each that waited is entered as cached, and says what it saved."""
    running = [asyncio.create_task(cached.complete(asking(), PLAN, KEEP)) for _ in range(5)]
    other = asyncio.create_task(cached.complete(asking('"pong"'), PLAN, KEEP))
    await settled()
    assert chain.n_sent == 2
    chain.go.set()
    done = await asyncio.gather(*running)
    assert [one.cache for one in done] == ["miss", *["hit"] * 4]
    assert {one.reply.body for one in done} == {BODY}
    assert [(one.cost_nusd, one.saved_nusd) for one in done[1:]] == [(0, 5)] * 4
    assert ((await other).cache, chain.n_cached) == ("miss", 4)


async def test_another_ones_failure_is_not_mine(chain: Answering, cached: CachedChain) -> None:
    """Who waited asks by itself then; so it does when what came may not be kept."""
    chain.failures = [UpstreamUnavailable("no")]
    running = [asyncio.create_task(cached.complete(asking(), PLAN, KEEP)) for _ in range(3)]
    await settled()
    assert chain.n_sent == 1
    chain.go.set()
    first, *others = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(first, UpstreamUnavailable)
    assert all(isinstance(one, Completed) for one in others)
    assert chain.n_sent > 1
    chain.body = CALLS_TOOL
    done = await asyncio.gather(*(cached.complete(asking('"tools"'), PLAN, KEEP) for _ in range(3)))
    assert [one.cache for one in done] == ["miss"] * 3


async def test_who_leaves_takes_nobody_along(chain: Answering, cached: CachedChain) -> None:
    """Neither one that waits nor the one that was sent: it goes on for the others, and ends with the last of them."""
    sent, waiting, other = [asyncio.create_task(cached.complete(asking(), PLAN, KEEP)) for _ in range(3)]
    await settled()
    waiting.cancel()
    sent.cancel()
    await settled()
    assert (chain.n_sent, chain.n_given_up) == (1, 0)
    chain.go.set()
    assert (await other).cache == "hit"
    assert chain.n_sent == 1
    chain.go.clear()
    alone = [asyncio.create_task(cached.complete(asking('"pong"'), PLAN, KEEP)) for _ in range(2)]
    await settled()
    for one in alone:
        one.cancel()
    await settled()
    assert (chain.n_sent, chain.n_given_up) == (2, 1)


async def test_nobody_waits_past_a_deadline_of_its_own(chain: Answering, cached: CachedChain) -> None:
    """What happens then is the chain's to say."""
    sent = asyncio.create_task(cached.complete(asking(), PLAN, KEEP))
    await settled()
    chain.failures = [DeadlineExceeded("late")]
    hurried = asyncio.create_task(
        cached.complete(asking(deadline_s=asyncio.get_running_loop().time() + 0.01), PLAN, KEEP)
    )
    await asyncio.wait([hurried], timeout=0.2)
    assert chain.n_sent == 2
    chain.go.set()
    with pytest.raises(DeadlineExceeded):
        await hurried
    assert (await sent).cache == "miss"


async def test_who_only_reads_or_writes_does_not_wait(chain: Answering, cached: CachedChain) -> None:
    """Nor does anybody wait for them."""
    modes = [CacheWish(mode=mode) for mode in ("readwrite", "write", "read")]
    running = [asyncio.create_task(cached.complete(asking(), PLAN, wish)) for wish in modes]
    await settled()
    assert chain.n_sent == 3
    chain.go.set()
    assert [one.cache for one in await asyncio.gather(*running)] == ["miss"] * 3
    assert (await cached.complete(asking(), PLAN, modes[2])).cache == "hit"
