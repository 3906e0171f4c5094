"""Two replicas, one Valkey: what one was answered the other gives again, and without Valkey each does alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cached_world import Cached, asking, running_cached
from postgres import Cluster
from upstream import answers, running_upstream
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("PERF-1")

WAIT_S = 10.0
"""Within that Valkey is used again."""

Pair = tuple[Cached, Cached, ValkeyServer]


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
def pair(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with running_valkey() as valkey, running_upstream() as upstream:
        env = {"DATABASE_URL": database_url, "VALKEY_URL": valkey.url}
        folders = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
        with running_cached(folders[0], upstream, env) as one, running_cached(folders[1], upstream, env) as other:
            yield one, other, valkey


def state(gateway: Cached, body: dict[str, object], key: str) -> str:
    response = gateway.post(body, key=key).raise_for_status()
    return str(response.headers["x-wattos-cache"])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_replica_gives_again_what_the_other_was_answered(pair: Pair, stream: bool) -> None:
    """To the byte, with what it saved; not to another tenant. Valkey is not waited for: one that took longer than its
    100 ms, on a busy machine or before the first beat, is left alone for a second."""
    one, other, _ = pair
    one.upstream.on("gpt", answers("Hello world " * 1000, chunks=50))
    theirs = one.server.make_key("theirs")

    def is_shared() -> bool:
        body = asking(stream=stream)
        first, second = one.post(body), other.post(body, key=one.key)
        assert first.headers["x-wattos-cache"] == "miss"
        assert state(other, body, theirs) == "miss"
        if second.headers["x-wattos-cache"] == "miss":
            return False
        assert second.content == first.content
        assert int(second.headers["x-wattos-saved-nusd"]) > 0
        return True

    until(is_shared)


def joined(*gateways: Cached) -> int:
    """How many wait for another's call of their own replica."""
    pattern = r'^cache_operations_total{operation="get_or_set",result="joined"} (\d+)'
    pages = [httpx.get(f"{gateway.server.url}/health/metrics").text for gateway in gateways]
    return sum(int(float(found)) for page in pages for found in re.findall(pattern, page, re.MULTILINE))


def test_of_twenty_equal_requests_at_two_replicas_one_is_sent(pair: Pair) -> None:
    """It costs its sender, and the others are in the ledger as cached."""
    one, other, _ = pair
    until(lambda: [state(gateway, body, one.key) for body in [asking()] for gateway in (one, other)] == ["miss", "hit"])
    one.upstream.on("gpt", answers("Hello", hold_after=0))
    body, sent, waited = asking(), one.calls(), joined(one, other)
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(gateway.post, body, key=one.key) for gateway in (one, other) for _ in range(10)]
        until(lambda: joined(one, other) - waited == 18)
        one.upstream.release()
        states = [future.result().raise_for_status().headers["x-wattos-cache"] for future in asked]
    assert one.calls() - sent == 1
    assert (states.count("miss"), states.count("hit")) == (1, 19)


def test_without_valkey_each_gives_its_own_again_and_nobody_fails(pair: Pair) -> None:
    """Killed and back: then they share again, by themselves."""
    one, other, valkey = pair
    known, fresh = asking(), asking()
    assert state(one, known, one.key) == "miss"
    valkey.kill()
    assert state(one, known, one.key) == "hit"
    assert [state(gateway, fresh, one.key) for gateway in (one, other, one, other)] == ["miss", "miss", "hit", "hit"]
    valkey.restart()

    def is_shared() -> bool:
        body = asking()
        return [state(gateway, body, one.key) for gateway in (one, other)] == ["miss", "hit"]

    until(is_shared)
