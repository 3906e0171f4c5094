"""Equal requests at two replicas, on one Valkey: one of all is sent, and each pays for its own alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from app.errors import UpstreamUnavailable
from app.response_cache.service import CachedChain
from cache_replicas import Replica, replicas
from plugins.contract.nulls import NullMeter
from unit.app.response_cache.test_service import CALLS_TOOL, KEEP, PLAN, Answering, asking
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("PERF-1")

WAIT_S = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with running_valkey() as running:
        yield running


class Site:
    """One replica: what it sends, and to whom."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.chain = Answering()
        chain: Any = self.chain
        self.cached = CachedChain(chain, replica.cache, state="miss", meter=NullMeter())

    def asked(self, text: str, n: int = 1, deadline_s: float | None = None) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.cached.complete(asking(text, deadline_s), PLAN, KEEP)) for _ in range(n)]

    def n_looks(self) -> int:
        """How often it asked Valkey in vain."""
        return self.replica.valkey_total("get", "miss")


@pytest.fixture
def text() -> str:
    return f'"{uuid4().hex}"'


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


async def test_of_equal_requests_at_two_replicas_one_is_sent(server: ValkeyServer, text: str) -> None:
    """Twenty of them: one is billed by its call, nineteen are entered as cached."""
    async with replicas(server.url) as both:
        one, other = map(Site, both)
        running = one.asked(text, 10)
        await until(lambda: one.chain.n_sent == 1)
        running += other.asked(text, 10)
        await until(lambda: other.n_looks() > 1)
        one.chain.go.set()
        done = await asyncio.gather(*running)
        assert (one.chain.n_sent, other.chain.n_sent) == (1, 0)
        assert [answer.cache for answer in done].count("hit") == 19
        assert one.chain.n_cached + other.chain.n_cached == 19
        assert len({answer.reply.body for answer in done}) == 1


@pytest.mark.parametrize("is_refused", [True, False])
async def test_what_may_not_be_shared_is_nobody_elses(server: ValkeyServer, text: str, is_refused: bool) -> None:
    """A failure, or an answer that is not kept: the other replica's turn comes at once."""
    async with replicas(server.url) as both:
        one, other = map(Site, both)
        one.chain.failures = [UpstreamUnavailable("no")] if is_refused else []
        one.chain.body = CALLS_TOOL
        first = one.asked(text)
        await until(lambda: one.chain.n_sent == 1)
        others = other.asked(text, 3)
        await until(lambda: other.n_looks() > 1)
        one.chain.go.set()
        other.chain.go.set()
        done = await asyncio.gather(*first, return_exceptions=True)
        assert isinstance(done[0], UpstreamUnavailable) == is_refused
        assert [answer.cache for answer in await asyncio.gather(*others)] == ["miss", "hit", "hit"]
        assert other.chain.n_sent == 1


async def test_who_left_while_it_was_anothers_turn_is_not_sent(server: ValkeyServer, text: str) -> None:
    """Whoever is still there asks by itself. A deadline of its own ends the waiting, too."""
    async with replicas(server.url) as both:
        one, other = map(Site, both)
        one.chain.body = other.chain.body = CALLS_TOOL
        first = one.asked(text)
        await until(lambda: one.chain.n_sent == 1)
        soon_s = asyncio.get_running_loop().time() + 0.05
        left, hurried, stays = (other.asked(text, deadline_s=until_s)[0] for until_s in (None, soon_s, None))
        await until(lambda: other.chain.n_sent == 1)  # the hurried one
        left.cancel()
        one.chain.go.set()
        other.chain.go.set()
        assert (await first[0]).cache == "miss"
        assert [(await task).cache for task in (hurried, stays)] == ["miss", "miss"]
        assert other.chain.n_sent == 2
