"""Two replicas whose database is away for a while: what goes on meanwhile, and what the ledger says afterwards.

`tests/faults/test_outage.py` does it for seconds, `tests/load/outage.py` for a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway import config
from plugins.contract.credentials import generate_key
from postgres import Cluster
from server import RunningServer, environment, running
from upstream import Upstream, answers, running_upstream

QUIET = {"LOCAL_MODELS_ENABLED": "false", "WORKER_ENABLED": "false", "HEALTH_CHECK_INTERVAL_S": "0.5"}
MESSAGES = [{"role": "user", "content": "ping"}]
N_CALLERS, N_UNDER_WAY = 6, 5


class Seen(msgspec.Struct):
    """Of the time without a database."""

    statuses: Counter[int]
    """Of calls with known keys."""
    slowest_ms: float
    unknown_key: set[int]
    liveness: set[int]
    readiness: set[int]
    health: set[str]
    rows: list[dict[str, Any]]
    """The whole ledger, once the database was back and a replica was killed."""
    n_answered: int
    """As the vendor knows it."""


def ask(server: RunningServer, key: str, model: str, *, stream: bool = False) -> int | None:
    """None where the server died meanwhile."""
    body = {"model": model, "messages": MESSAGES, "stream": stream}
    headers = {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    except httpx.TransportError:
        return None
    return answer.status_code


def ride_out(cluster: Cluster, tmp_path: Path, outage_s: float) -> Seen:
    database = asyncio.run(cluster.create_database())
    with running_upstream() as upstream:
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        env = environment(tmp_path / "data", DATABASE_URL=database, MODELS_CONFIG=str(models), **QUIET)
        with running(env, tmp_path / "1.log") as stays, running(env, tmp_path / "2.log") as dies:
            return _ride_out(cluster, upstream, [stays, dies], outage_s)


def _ride_out(cluster: Cluster, upstream: Upstream, servers: list[RunningServer], outage_s: float) -> Seen:
    stays, dies = servers
    upstream.on("gpt", answers(usage=(7, 3)))
    upstream.on("spare", answers(hold_after=0))
    key = stays.make_key("a", scopes=["models:use", "usage:read"])
    for server in servers:
        assert ask(server, key, "chat") == 200
    seen = Seen(Counter(), 0.0, set(), set(), set(), set(), [], 0)
    with ThreadPoolExecutor(N_CALLERS + N_UNDER_WAY) as pool, cluster.frozen():
        over = threading.Event()
        calling = [pool.submit(_call_until, over, servers, key, number, seen) for number in range(N_CALLERS)]
        time.sleep(min(2.0, outage_s / 2))  # time enough to notice
        deadline = time.monotonic() + outage_s
        while time.monotonic() < deadline:
            _look(stays, seen)
            time.sleep(0.5)
        over.set()
        for one in calling:
            one.result()
        under_way = [pool.submit(ask, dies, key, "spare") for _ in range(N_UNDER_WAY)]
        upstream.wait_until(lambda: len(upstream.to("spare")) == N_UNDER_WAY)
        os.kill(dies.process.pid, signal.SIGKILL)
        dies.process.wait()
        assert {one.result() for one in under_way} == {None}
    n_wanted = len(upstream.to("gpt")) + N_UNDER_WAY
    _wait(lambda: len(_rows(stays, key)) >= n_wanted)
    time.sleep(0.5)
    seen.rows, seen.n_answered = _rows(stays, key), len(upstream.to("gpt"))
    return seen


def _call_until(over: threading.Event, servers: list[RunningServer], key: str, number: int, seen: Seen) -> None:
    while not over.is_set():
        number += 1
        began_s = time.monotonic()
        status = ask(servers[number % 2], key, "chat", stream=number % 4 < 2)
        seen.statuses[status or 0] += 1
        seen.slowest_ms = max(seen.slowest_ms, (time.monotonic() - began_s) * 1000)
        time.sleep(0.02)


def _look(server: RunningServer, seen: Seen) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        seen.liveness.add(client.get("/health/liveness").status_code)
        seen.readiness.add(client.get("/health/readiness").status_code)
        seen.health.add(client.get("/health").json()["status"])
        unknown = {"authorization": f"Bearer {generate_key().key}"}
        seen.unknown_key.add(client.get("/v1/models", headers=unknown).status_code)


def _rows(server: RunningServer, key: str) -> list[dict[str, Any]]:
    headers, rows, after = {"authorization": f"Bearer {key}"}, list[dict[str, Any]](), None
    while True:
        query = {"limit": 100, **({"after": after} if after else {})}
        page = httpx.get(f"{server.url}/api/v1/usage", params=query, headers=headers, timeout=30)
        found = page.raise_for_status().json()
        rows += found["data"]
        if not found["has_more"]:
            return rows
        after = rows[-1]["id"]


def _wait(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def require_nothing_lost(seen: Seen) -> None:
    """What every outage must be like, however long."""
    assert set(seen.statuses) == {200}, seen.statuses
    assert seen.unknown_key <= {401, 503}
    assert (seen.liveness, seen.readiness, seen.health) == ({200}, {200}, {"degraded"})
    read = [row for row in seen.rows if row["outcome"] == "ok"]
    assert len(read) == seen.n_answered == seen.statuses[200] + 2
    assert {(row["input_tokens"], row["output_tokens"], row["is_estimate"]) for row in read} == {(7, 3, False)}
    lost = [row for row in seen.rows if row["outcome"] == "lost"]
    assert len(lost) == N_UNDER_WAY
    assert all(row["cost_nusd"] > 0 and row["is_estimate"] for row in lost)
    assert len({row["id"] for row in seen.rows}) == len(seen.rows) == len(read) + len(lost)
