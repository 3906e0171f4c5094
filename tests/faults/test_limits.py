"""Two replicas, one Valkey: they share each limit, and Valkey's death fails no request and lets in none too many.

Shortened, so that it is in every run; `tests/load/limits.py` is the long one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from limits_load import Replicas, admitted, fullest_window, load, replicas, statuses
from postgres import Cluster
from upstream import answers as answering
from upstream import hangs

pytestmark = pytest.mark.requirement("SEC-1")

DEADLINE_S = 15.0


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
def pair(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with replicas(tmp_path_factory.mktemp("limits"), database_url) as made:
        yield made


async def test_two_replicas_let_in_together_what_the_limit_says(pair: Replicas) -> None:
    """Not one more, and all of it, at five times the load."""
    key = pair.limited_key("together", requests_per_minute=120)
    answers = await load([one.url for one in pair.servers], key, per_s=75, for_s=3)
    assert statuses(answers).keys() == {200, 429}
    assert len(admitted(answers)) == 120


async def test_one_replica_may_use_it_all(pair: Replicas) -> None:
    """While the other has nothing to do."""
    key = pair.limited_key("alone", requests_per_minute=120)
    warm = await load([pair.servers[1].url], key, per_s=2, for_s=1)
    answers = await load([pair.servers[0].url], key, per_s=60, for_s=3)
    assert len(admitted(warm)) + len(admitted(answers)) == 120


async def test_valkey_killed_and_back_under_load_fails_nothing(pair: Replicas) -> None:
    """Shares go on; nobody waits; none too many; and what is new is lent again once it is back, by itself."""
    key = pair.limited_key("killed", requests_per_minute=600)
    urls = [one.url for one in pair.servers]
    events = [(1.5, pair.valkey.kill), (3.5, pair.valkey.restart)]
    answers = await load(urls, key, per_s=40, for_s=5.5, events=events)
    assert statuses(answers).keys() <= {200, 429}
    assert max(one.took_ms for one in answers) < 2_000
    assert fullest_window(answers) <= 600
    assert len(admitted(answers)) > 100
    await until_lent(pair, "after-kill")


async def test_valkey_frozen_under_load_holds_up_nobody(pair: Replicas) -> None:
    """Its connections are open, and nobody answers."""
    key = pair.limited_key("frozen", requests_per_minute=600)
    urls = [one.url for one in pair.servers]
    events = [(1.0, pair.valkey.freeze), (3.0, pair.valkey.thaw)]
    answers = await load(urls, key, per_s=40, for_s=4, events=events)
    assert statuses(answers).keys() <= {200, 429}
    assert max(one.took_ms for one in answers) < 2_000
    assert fullest_window(answers) <= 600
    await until_lent(pair, "after-freeze")


async def until_lent(pair: Replicas, slug: str) -> None:
    """A key that nobody has used gets in on both replicas."""
    key = pair.limited_key(slug, requests_per_minute=120)
    deadline = time.monotonic() + DEADLINE_S
    for server in pair.servers:
        while 200 not in statuses(await load([server.url], key, per_s=4, for_s=0.5)):
            assert time.monotonic() < deadline, "nothing is lent"


async def test_slots_of_a_killed_replica_come_back(pair: Replicas) -> None:
    """Within ten seconds. The last one here: it ends a replica."""
    key = pair.limited_key("slots", max_concurrency=2)
    doomed, other = pair.servers
    body = {"model": "chat", "messages": [{"role": "user", "content": "ping"}]}
    pair.upstream.on("gpt", hangs, hangs)
    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=doomed.url, headers=headers, timeout=30) as to_doomed,
        httpx.AsyncClient(base_url=other.url, headers=headers, timeout=30) as to_other,
    ):
        held = [asyncio.create_task(to_doomed.post("/v1/chat/completions", json=body)) for _ in range(2)]
        await asyncio.to_thread(pair.upstream.wait_until, lambda: len(pair.upstream.to("gpt")) >= 2)
        assert (await to_other.post("/v1/chat/completions", json=body)).status_code == 429
        pair.upstream.on("gpt", answering("pong"))
        os.killpg(doomed.process.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await asyncio.gather(*held, return_exceptions=True)
        while (await to_other.post("/v1/chat/completions", json=body)).status_code == 429:
            assert time.monotonic() < killed_s + 10
            await asyncio.sleep(0.2)
