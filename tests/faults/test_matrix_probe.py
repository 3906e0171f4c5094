"""What a target that answers nothing but errors gets to see of fifty callers: the threshold, and then single probes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from postgres import Cluster
from server import RunningServer, environment, running
from upstream import API_KEY, Upstream, answers, fails, running_upstream
from upstream_server import Exchange

THRESHOLD = 5
"""`CIRCUIT_BREAKER_FAILURE_THRESHOLD`, unless set."""

N_CALLERS, RESET_S = 50, 3.0
REPLICAS = ("a", "b")
SEEN_S = 0.75
"""What the target answered is known to the replica by then, on a busy machine, too."""


class Broken:
    """A target at 100 % errors; while `is_held`, it says so only once the gate opens."""

    def __init__(self, upstream: Upstream, model: str) -> None:
        self.model = model
        self.is_held = False
        self._upstream = upstream
        upstream.on(model, self._answer)

    def since(self, at_s: float) -> int:
        return sum(one.at_s >= at_s for one in self._upstream.to(self.model))

    @property
    def n_seen(self) -> int:
        return len(self._upstream.to(self.model))

    async def _answer(self, exchange: Exchange) -> None:
        if self.is_held:
            await exchange.upstream.at_gate()
        await fails(500)(exchange)


class Pair:
    """Two replicas that know nothing of each other, each with a broken first target of its own."""

    def __init__(self, servers: dict[str, RunningServer], upstream: Upstream, key: str) -> None:
        self.servers = servers
        self.upstream = upstream
        self.key = key
        self.statuses: set[int] = set()
        self.broken = [Broken(upstream, f"first-{name}") for name in REPLICAS]

    async def call_until(self, over: asyncio.Event, session: aiohttp.ClientSession, number: int) -> None:
        url = self.servers[REPLICAS[number % 2]].url
        body = {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "stream": number % 4 < 2}
        while not over.is_set():
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                await answer.read()
                self.statuses.add(answer.status)
            await asyncio.sleep(0.25)  # 200 calls a second in all would be load, which is not the question


@pytest.fixture
async def pair(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Pair]:
    url = await cluster.create_database()
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        servers: dict[str, RunningServer] = {}
        for name in REPLICAS:
            models = tmp_path / f"{name}.yaml"
            at = {"api_base": upstream.url, "api_key": API_KEY}
            targets = (f"first-{name}", "second")
            made = [{"model_name": "chat", "litellm_params": {"model": f"openai/{one}", **at}} for one in targets]
            models.write_text(json.dumps({"model_list": made}))
            env = environment(
                tmp_path / name,
                DATABASE_URL=url,
                MODELS_CONFIG=str(models),
                LOCAL_MODELS_ENABLED="false",
                WORKER_ENABLED="false",
                CIRCUIT_BREAKER_RESET_TIMEOUT=str(int(RESET_S * 1000)),
            )
            servers[name] = stack.enter_context(running(env, tmp_path / f"{name}.log"))
        key = await asyncio.to_thread(servers["a"].make_key, "one")
        yield Pair(servers, upstream, key)


async def test_a_broken_target_gets_the_threshold_and_then_one_probe_at_a_time(pair: Pair) -> None:
    """With fifty callers waiting: no call until the reset time, then exactly one a replica, however long it hangs."""
    over = asyncio.Event()
    headers = {"authorization": f"Bearer {pair.key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        calling = [asyncio.create_task(pair.call_until(over, session, number)) for number in range(N_CALLERS)]
        await _until(lambda: all(one.n_seen >= THRESHOLD for one in pair.broken))
        opened_s = time.monotonic()
        for one in pair.broken:
            one.is_held = True
        await asyncio.sleep(RESET_S - 0.5)
        for one in pair.broken:
            assert THRESHOLD <= one.n_seen <= THRESHOLD + N_CALLERS // 2
            assert one.since(opened_s + SEEN_S) == 0
        n_before = [one.n_seen for one in pair.broken]

        await _until(lambda: all(one.n_seen > n for one, n in zip(pair.broken, n_before, strict=True)))
        await asyncio.sleep(RESET_S / 2)
        assert [one.n_seen for one in pair.broken] == [n + 1 for n in n_before]

        for one in pair.broken:
            one.is_held = False
        pair.upstream.release()  # the probes fail, too
        await asyncio.sleep(RESET_S / 2)
        assert [one.n_seen for one in pair.broken] == [n + 1 for n in n_before]

        for one in pair.broken:
            pair.upstream.on(one.model, answers())
        await _until(lambda: all(one.n_seen > n + 5 for one, n in zip(pair.broken, n_before, strict=True)))
        over.set()
        await asyncio.gather(*calling)
    assert pair.statuses == {200}


async def _until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
