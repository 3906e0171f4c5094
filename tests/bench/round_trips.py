"""Round trips to PostgreSQL and Valkey a call, counted: `.venv/bin/python tests/bench/round_trips.py [--seconds N]`.

A real server with a real PostgreSQL and Valkey, a key that is under limits of every kind and two budgets, and a
thousand calls a second, as far as the machine gives them. Everything counts that the process sends meanwhile, also what
is not on the path of a request: entries that are moved, heartbeats, health checks; and of each transaction its begin
and its commit. Prints JSON; the bar is 0.2 a call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import aiohttp
import httpx
import psycopg

from gateway import config
from postgres import running_cluster
from server import RunningServer, environment, running
from upstream import answers, running_upstream
from valkey_server import running_valkey

RATE = 1000
N_CALLERS = 40
PLENTY = 10**9
QUIET = {"LOCAL_MODELS_ENABLED": "false", "WORKER_ENABLED": "false", "LOG_LEVEL": "warn"}
COUNTED = ("db_queries_total", "valkey_operations_total")


def counted(server: RunningServer) -> dict[str, int]:
    metrics = httpx.get(f"{server.url}/health/metrics", timeout=30).text
    return {
        name: sum(int(float(value)) for value in re.findall(rf"^{name}\{{.*\}} (\S+)$", metrics, re.M))
        for name in COUNTED
    }


async def committed(database: str) -> int:
    """Transactions in this database so far. The server's own count is up to a second behind."""
    await asyncio.sleep(1.5)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        found = await connection.execute("select xact_commit from pg_stat_database where datname = current_database()")
        (n_committed,) = await found.fetchone() or (0,)
    return int(n_committed)


def limited_key(server: RunningServer) -> str:
    key = server.make_key("a")
    me = httpx.get(f"{server.url}/api/v1/auth/me", headers={"authorization": f"Bearer {key}"}).json()
    every = {"requests_per_minute": PLENTY, "tokens_per_minute": PLENTY, "max_concurrency": PLENTY}
    with server.admin() as admin:
        for scope, of in (("tenant", me["tenant_id"]), ("key", me["key_id"])):
            admin.put("/api/v1/limits", json={"scope": scope, "scope_id": of, **every}).raise_for_status()
            budget = {"scope": scope, "scope_id": of, "period": "month", "amount_nusd": 10**15}
            admin.post("/api/v1/budgets", json=budget).raise_for_status()
    return key


async def load(url: str, key: str, seconds: float) -> int:
    body = {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 20}
    headers = {"authorization": f"Bearer {key}"}
    began_s, n_sent = time.monotonic(), 0

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> None:
            nonlocal n_sent
            while time.monotonic() - began_s < seconds:
                n_sent += 1
                if (ahead_s := n_sent / RATE - (time.monotonic() - began_s)) > 0:
                    await asyncio.sleep(ahead_s)
                async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

        await asyncio.gather(*(call() for _ in range(N_CALLERS)))
    return n_sent


async def measure(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name, running_valkey() as valkey, running_upstream() as upstream:
        upstream.on("gpt", answers(usage=(7, 3)))
        async with running_cluster() as cluster:
            models = Path(name) / "models.yaml"
            models.write_text(json.dumps(config(upstream.url)))
            database = await cluster.create_database()
            given = {"DATABASE_URL": database, "VALKEY_URL": valkey.url}
            env = environment(Path(name) / "data", MODELS_CONFIG=str(models), **given, **QUIET)
            with running(env, Path(name) / "server.log") as server:
                key = limited_key(server)
                await load(server.url, key, 3)
                before, n_before = counted(server), await committed(database)
                n_calls = await load(server.url, key, seconds)
                after, n_after = counted(server), await committed(database)
    trips = {name: after[name] - before[name] for name in COUNTED}
    trips["begin_and_commit"] = 2 * (n_after - n_before)
    found = {f"{name}_a_call": round(trips[name] / n_calls, 4) for name in trips}
    return {"calls_a_second": round(n_calls / seconds), **found, "a_call": round(sum(trips.values()) / n_calls, 4)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    print(json.dumps(asyncio.run(measure(parser.parse_args().seconds)), indent=1))
