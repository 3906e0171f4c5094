"""Two replicas, one Valkey: what one was answered the other gives again, and without Valkey each does alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

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
