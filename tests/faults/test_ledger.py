"""Servers and databases die; the ledger says what the vendor's own log says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from app.database.cluster import Cluster as Files
from gateway import config
from postgres import Cluster
from server import RunningServer, environment, running
from upstream import Upstream, answers, running_upstream

QUIET = {"LOCAL_MODELS_ENABLED": "false", "WORKER_ENABLED": "false", "HEALTH_CHECK_INTERVAL_S": "60"}
MESSAGES = [{"role": "user", "content": "ping"}]
N_READ, N_UNDER_WAY = 40, 5
KNOWN = "known"
"""A call with this makes a tenant known: what it pays, and what it may spend. It is not counted."""


def asked(server: RunningServer, key: str, model: str, stream: bool = False) -> int | None:
    """The status; None where the server died meanwhile."""
    body = {"model": model, "messages": MESSAGES, "stream": stream}
    headers = {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    except httpx.TransportError:
        return None
    return answer.status_code


def rows_of(server: RunningServer, key: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.get(f"{server.url}/api/v1/usage", params={"limit": 100}, headers=headers, timeout=30)
    return [row for row in answer.raise_for_status().json()["data"] if row["model"] != KNOWN]


def wait(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def use(server: RunningServer, upstream: Upstream, key: str, die: Callable[[], None]) -> None:
    """Calls that are read, half of them streams, and some that are under way when the server dies."""
    upstream.on("gpt", answers(usage=(7, 3)))
    upstream.on("spare", answers(hold_after=0))
    with ThreadPoolExecutor(N_UNDER_WAY + 4) as pool:
        reading = [pool.submit(asked, server, key, "chat", stream=bool(n % 2)) for n in range(N_READ)]
        assert {one.result() for one in reading} == {200}
        under_way = [pool.submit(asked, server, key, "spare") for _ in range(N_UNDER_WAY)]
        upstream.wait_until(lambda: len(upstream.to("spare")) == N_UNDER_WAY)
        die()
        assert {one.result() for one in under_way} == {None}


def require_whole(server: RunningServer, upstream: Upstream, key: str) -> None:
    """Each call once, as the vendor knows it; those that nobody saw end are lost, with an estimate."""
    wait(lambda: len(rows_of(server, key)) >= N_READ + N_UNDER_WAY)
    time.sleep(0.5)
    rows = rows_of(server, key)
    read = [row for row in rows if row["outcome"] == "ok"]
    assert len(read) == len(upstream.to("gpt")) == N_READ
    assert {(row["input_tokens"], row["output_tokens"], row["is_estimate"]) for row in read} == {(7, 3, False)}
    lost = [row for row in rows if row["outcome"] == "lost"]
    assert len(lost) == len(upstream.to("spare")) == N_UNDER_WAY
    assert all(row["cost_nusd"] > 0 and row["is_estimate"] for row in lost)
    assert len({row["id"] for row in rows}) == len(rows) == N_READ + N_UNDER_WAY


def test_a_successor_enters_what_a_killed_server_wrote_while_the_database_was_frozen(tmp_path: Path) -> None:
    """The database stops, calls go on, the server is killed: nothing is missing and nothing is double."""
    data_dir = tmp_path / "data"
    with running_upstream() as upstream:
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        env = environment(data_dir, MODELS_CONFIG=str(models), **QUIET)
        with running(env, tmp_path / "1.log") as server:
            key = server.make_key("a", scopes=["models:use", "usage:read"])
            assert rows_of(server, key) == []
            assert asked(server, key, KNOWN) is not None
            postmaster = Files(data_dir).running_pid()
            assert postmaster is not None
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            pids = [postmaster, *map(int, children)]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                use(server, upstream, key, die=lambda: server.process.kill())
                server.process.wait()
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            assert list((data_dir / "journal").glob("*/000001.log"))
            with running(env, tmp_path / "2.log") as successor:
                require_whole(successor, upstream, key)
                assert len([path for path in (data_dir / "journal").iterdir() if path.name[0] != "."]) == 1
            assert list((data_dir / "journal").iterdir()) == [], "a clean end leaves nothing to be replayed"


def test_another_replica_enters_what_a_killed_one_left(cluster: Cluster, tmp_path: Path) -> None:
    """Both see the volume; the living one's own journal is left alone."""
    database = asyncio.run(cluster.create_database())
    with running_upstream() as upstream:
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        env = environment(tmp_path / "data", DATABASE_URL=database, MODELS_CONFIG=str(models), **QUIET)
        with running(env, tmp_path / "2.log") as other, running(env, tmp_path / "1.log") as server:
            key = server.make_key("a", scopes=["models:use", "usage:read"])
            use(server, upstream, key, die=lambda: os.kill(server.process.pid, signal.SIGKILL))
            server.process.wait()
            require_whole(other, upstream, key)
