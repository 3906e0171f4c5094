"""Two replicas on one database; owners that are killed, clients that leave, a database that goes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from app.idempotency.service import LEASE_S
from gateway import config
from postgres import Cluster
from server import RunningServer, environment, running
from upstream import Upstream, answers, running_upstream

QUIET = {
    "LOCAL_MODELS_ENABLED": "false",
    "WORKER_ENABLED": "false",
    "HEALTH_CHECK_INTERVAL_S": "60",
    "PLUGINS_CACHE_ENABLED": "false",
}
MESSAGES = [{"role": "user", "content": "ping"}]
REPLAYED = "idempotent-replayed"
BACK_S = 15.0  # a database that is back is used again within 10 s, should its breaker have opened


class Replicas:
    """Two servers of one deployment, which share their database and nothing else."""

    def __init__(self, one: RunningServer, two: RunningServer, upstream: Upstream, database: str) -> None:
        self.one, self.two, self.upstream, self.database = one, two, upstream, database
        self.key = one.make_key("a")

    def ask(self, server: RunningServer, key: str, *, stream: bool = False, timeout_s: float = 60) -> httpx.Response:
        return httpx.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "chat", "messages": MESSAGES, "stream": stream},
            headers={"authorization": f"Bearer {self.key}", "idempotency-key": key},
            timeout=timeout_s,
        )

    def asked_first(self, pool: ThreadPoolExecutor, key: str, *, stream: bool = False) -> Future[httpx.Response]:
        """A request to the first replica, which its vendor has got and does not answer yet."""
        n_before = len(self.upstream.to("gpt"))
        first = pool.submit(self.ask, self.one, key, stream=stream)
        self.upstream.wait_until(lambda: len(self.upstream.to("gpt")) > n_before)
        return first


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@contextmanager
def running_replicas(database_url: str, tmp_path: Path) -> Iterator[Replicas]:
    with running_upstream() as upstream:
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))

        def env(name: str) -> dict[str, str]:
            return environment(tmp_path / name, DATABASE_URL=database_url, MODELS_CONFIG=str(models), **QUIET)

        with running(env("1"), tmp_path / "1.log") as one, running(env("2"), tmp_path / "2.log") as two:
            yield Replicas(one, two, upstream, database_url)


@pytest.fixture(scope="module")
def shared_replicas(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with running_replicas(database_url, tmp_path_factory.mktemp("replicas")) as made:
        yield made


@pytest.fixture
def replicas(shared_replicas: Replicas) -> Replicas:
    """The module's; their vendor has forgotten the test before."""
    shared_replicas.upstream.reset()
    return shared_replicas


def wait_for_line(server: RunningServer, text: str) -> None:
    """A thread writes the log."""
    deadline = time.monotonic() + 10
    while text not in server.log.read_text():
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_duplicate_on_the_other_replica_waits_and_gets_the_same(replicas: Replicas, stream: bool) -> None:
    """Byte for byte; the vendor is asked once."""
    replicas.upstream.on("gpt", answers("Hello there", hold_after=2 if stream else 0))
    key = f"other-replica-{stream}"
    with ThreadPoolExecutor(2) as pool:
        first = replicas.asked_first(pool, key, stream=stream)
        second = pool.submit(replicas.ask, replicas.two, key, stream=stream)
        time.sleep(0.3)
        assert not second.done()
        replicas.upstream.release()
        assert (second.result().status_code, second.result().content) == (200, first.result().content)
    assert second.result().headers[REPLAYED] == "true"
    assert len(replicas.upstream.to("gpt")) == 1


def test_a_duplicate_of_a_killed_owner_takes_over_after_its_lease(database_url: str, tmp_path: Path) -> None:
    """SIGKILL in the middle of a call: not before the lease is over, and soon after."""
    with running_replicas(database_url, tmp_path) as replicas, ThreadPoolExecutor(2) as pool:
        replicas.upstream.on("gpt", answers("lost", hold_after=0), answers("second"))
        first = replicas.asked_first(pool, "killed")
        killed_s = time.monotonic()
        os.kill(replicas.one.process.pid, signal.SIGKILL)
        replicas.one.process.wait()
        second = pool.submit(replicas.ask, replicas.two, "killed")
        with pytest.raises(httpx.TransportError):
            first.result()
        answer = second.result()
        took_s = time.monotonic() - killed_s
        assert (answer.status_code, REPLAYED in answer.headers) == (200, False)
        assert "second" in answer.text
        assert LEASE_S / 2 < took_s < 2 * LEASE_S
        wait_for_line(replicas.two, "is done again")
        assert replicas.ask(replicas.two, "killed").headers[REPLAYED] == "true"


def test_an_owner_that_was_frozen_answers_late_and_keeps_nothing(replicas: Replicas) -> None:
    """SIGSTOP for longer than its lease: both answers reach their clients, and the one that is kept stays."""
    replicas.upstream.on("gpt", answers("late", hold_after=0), answers("second"))
    with ThreadPoolExecutor(1) as pool:
        first = replicas.asked_first(pool, "frozen")
        os.kill(replicas.one.process.pid, signal.SIGSTOP)
        try:
            assert "second" in replicas.ask(replicas.two, "frozen").text
        finally:
            os.kill(replicas.one.process.pid, signal.SIGCONT)
        replicas.upstream.release()
        assert (first.result().status_code, "late" in first.result().text) == (200, True)
    wait_for_line(replicas.one, "an answer came after its lease was over")
    assert "second" in replicas.ask(replicas.one, "frozen").text


def test_an_owner_that_lives_keeps_its_lease(replicas: Replicas) -> None:
    """A call that takes longer than the lease is not done twice."""
    replicas.upstream.on("gpt", answers("slow", hold_after=0))
    with ThreadPoolExecutor(2) as pool:
        first = replicas.asked_first(pool, "long")
        second = pool.submit(replicas.ask, replicas.two, "long")
        time.sleep(1.3 * LEASE_S)
        assert not second.done()
        replicas.upstream.release()
        assert second.result().content == first.result().content
    assert len(replicas.upstream.to("gpt")) == 1


def test_a_client_that_leaves_frees_the_key_and_one_that_waits_changes_nothing(replicas: Replicas) -> None:
    """The first's call is cancelled, and the next one does it; a waiting client that leaves is not noticed by it."""
    replicas.upstream.on("gpt", answers("left", hold_after=0), answers("stays", hold_after=0))
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(httpx.ReadTimeout):
            replicas.ask(replicas.one, "leaves", timeout_s=1)
        replicas.upstream.wait_until(lambda: replicas.upstream.to("gpt")[0].left_at_s)
        stays = replicas.asked_first(pool, "leaves")
        with pytest.raises(httpx.ReadTimeout):
            replicas.ask(replicas.two, "leaves", timeout_s=0.5)
        replicas.upstream.release()
        assert "stays" in stays.result().text
    assert replicas.ask(replicas.two, "leaves").content == stays.result().content
    assert len(replicas.upstream.to("gpt")) == 2


@contextmanager
def without(cluster: Cluster, database_url: str) -> Iterator[None]:
    """The database takes no connections, and those there are end."""
    name = make_url(database_url).database
    with psycopg.connect(cluster.url, autocommit=True) as maintenance:
        maintenance.execute(f'alter database "{name}" with allow_connections false'.encode())
        maintenance.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        try:
            yield
        finally:
            maintenance.execute(f'alter database "{name}" with allow_connections true'.encode())


def test_without_the_database_a_key_promises_nothing(replicas: Replicas, cluster: Cluster) -> None:
    """503 and nothing is done; without a key the call goes on as ever. What was begun is answered, though not kept."""
    replicas.upstream.on("gpt", answers("begun", hold_after=0), answers())
    bearer = {"authorization": f"Bearer {replicas.key}"}
    with ThreadPoolExecutor(1) as pool:
        begun = replicas.asked_first(pool, "begun")
        with without(cluster, replicas.database):
            refused = replicas.ask(replicas.one, "away")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
            assert len(replicas.upstream.to("gpt")) == 1
            body = {"model": "free", "messages": MESSAGES}
            plain = httpx.post(f"{replicas.one.url}/v1/chat/completions", json=body, headers=bearer, timeout=30)
            assert plain.status_code == 200
            replicas.upstream.release()
            assert (begun.result().status_code, "begun" in begun.result().text) == (200, True)
    wait_for_line(replicas.one, "an answer could not be kept: database_unavailable")
    deadline = time.monotonic() + BACK_S
    while (again := replicas.ask(replicas.one, "away")).status_code == 503:
        assert time.monotonic() < deadline, "the database is not used again"
        time.sleep(0.1)
    assert (again.status_code, REPLAYED in again.headers) == (200, False)
