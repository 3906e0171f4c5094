"""Money under concurrency, over-cost, aborted calls and a killed replica: nothing overspent, nothing kept back."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import config
from postgres import Cluster
from server import RunningServer, environment, running
from upstream import Upstream, answers, running_upstream
from valkey_server import running_valkey

QUIET = {"LOCAL_MODELS_ENABLED": "false", "WORKER_ENABLED": "false", "HEALTH_CHECK_INTERVAL_S": "60"}
DOLLAR = 10**9
PER_TOKEN_USD = 0.001
MAX_TOKENS = 50
CALL = DOLLAR * 5 // 100
"""Fifty tokens at a tenth of a cent: five cents."""
WITHIN_LEASE_S = 30
N_AT_ONCE = 625
BREATH_S = 0.02
"""Between two of hundreds of calls: two cores are shared by clients, replicas and vendor, and one that is late with its
beats is refused slots that another has."""

SLOTS_RETURN_S = 8
"""A dead replica's, docs/LIMITS.md."""


@pytest.fixture(autouse=True)
def sockets_for_all() -> Iterator[None]:
    """Of 625 calls this process holds both ends: more than the 1,024 files that many systems allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Two:
    """Two replicas on one database, their vendor, and a key that has a budget."""

    def __init__(self, servers: list[RunningServer], upstream: Upstream, amount_nusd: int) -> None:
        self.servers = servers
        self.upstream = upstream
        self.key = servers[0].make_key("a", scopes=["models:use", "usage:read"])
        self.headers = {"authorization": f"Bearer {self.key}"}
        me = httpx.get(f"{servers[0].url}/api/v1/auth/me", headers=self.headers).json()
        of_key = {"scope": "key", "scope_id": me["key_id"]}
        with servers[0].admin() as admin:
            body = {**of_key, "period": "month", "amount_nusd": amount_nusd}
            self.budget_id = admin.post("/api/v1/budgets", json=body).raise_for_status().json()["id"]
            admin.put("/api/v1/limits", json={**of_key, "max_concurrency": N_AT_ONCE}).raise_for_status()

    async def ask(self, client: httpx.AsyncClient, number: int, **fields: object) -> int:
        messages = [{"role": "user", "content": "ping"}]
        body = {"model": "dear", "messages": messages, "max_tokens": MAX_TOKENS, **fields}
        url = f"{self.servers[number % len(self.servers)].url}/v1/chat/completions"
        return (await client.post(url, json=body, headers=self.headers)).status_code

    async def ask_all(self, n_calls: int, every_s: float = 0.0) -> list[int]:
        """One after the other every `every_s`, without waiting for answers."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def ask(number: int) -> int:
                await asyncio.sleep(number * every_s)
                return await self.ask(client, number)

            return await asyncio.gather(*map(ask, range(n_calls)))

    def budget(self, at: int = 0) -> dict[str, Any]:
        url = f"{self.servers[at].url}/api/v1/budgets/{self.budget_id}"
        return dict(httpx.get(url, headers=self.headers, timeout=30).raise_for_status().json())

    def wait(self, *, reserved_nusd: int, within_s: float = WITHIN_LEASE_S) -> dict[str, Any]:
        deadline = time.monotonic() + within_s
        while (found := self.budget())["reserved_nusd"] != reserved_nusd:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found


@contextmanager
def two(cluster: Cluster, tmp_path: Path, amount_nusd: int) -> Iterator[Two]:
    database = asyncio.run(cluster.create_database())
    with running_upstream() as upstream, running_valkey() as valkey:
        dear = {"input_cost_per_token": 0, "output_cost_per_token": PER_TOKEN_USD}
        models = config(upstream.url)
        models["model_list"] = [
            {
                "model_name": "dear",
                "litellm_params": {"model": "openai/dear", "api_base": upstream.url, "api_key": "k", **dear},
            }
        ]
        path = tmp_path / "models.yaml"
        path.write_text(json.dumps({"model_list": models["model_list"]}))
        shared = {"DATABASE_URL": database, "VALKEY_URL": valkey.url}
        env = environment(tmp_path / "data", MODELS_CONFIG=str(path), **shared, **QUIET)
        with running(env, tmp_path / "1.log") as first, running(env, tmp_path / "2.log") as second:
            made = Two([first, second], upstream, amount_nusd)
            time.sleep(1)  # heard of everywhere
            yield made


def test_200_calls_at_once_spend_a_dollar_and_no_more(cluster: Cluster, tmp_path: Path) -> None:
    """Of five cents each: 18 to 20 reach the vendor, whichever replicas they come to; all others are refused."""
    with two(cluster, tmp_path, DOLLAR) as replicas:
        replicas.upstream.on("dear", answers(usage=(7, MAX_TOKENS), hold_after=0))
        asking = asyncio.run(_held(replicas, 200))
        assert 18 <= asking.count(200) <= 20
        assert asking.count(200) == len(replicas.upstream.to("dear"))
        assert asking.count(200) + asking.count(429) == 200
        found = replicas.wait(reserved_nusd=0)
        assert found["spent_nusd"] == asking.count(200) * CALL <= DOLLAR


async def _held(replicas: Two, n_calls: int, every_s: float = 0.0) -> list[int]:
    """All are there before the first is answered."""
    asking = asyncio.create_task(replicas.ask_all(n_calls, every_s))
    await asyncio.sleep(4 + n_calls * every_s)
    replicas.upstream.release()
    return await asking


def test_calls_that_cost_more_than_they_may_overspend_by_that_and_no_more(cluster: Cluster, tmp_path: Path) -> None:
    """What calls in flight at once cost beyond what they had reserved is the only way over a budget."""
    factor = 7
    with two(cluster, tmp_path, DOLLAR) as replicas:
        replicas.upstream.on("dear", answers(usage=(7, factor * MAX_TOKENS)))
        n_served, most = 0, 0
        for _ in range(8):
            served = asyncio.run(replicas.ask_all(12)).count(200)
            n_served, most = n_served + served, max(most, served)
        spent = replicas.wait(reserved_nusd=0)["spent_nusd"]
        assert spent == n_served * factor * CALL == len(replicas.upstream.to("dear")) * factor * CALL
        assert DOLLAR * 9 // 10 <= spent <= DOLLAR + most * (factor - 1) * CALL


def test_aborted_calls_and_a_killed_replica_hold_nothing_back(cluster: Cluster, tmp_path: Path) -> None:
    """Within the lease's time nothing is reserved and no slot is taken any more, and the next call passes."""
    n_calls = N_AT_ONCE * 4 // 5
    with two(cluster, tmp_path, (n_calls + 1) * CALL) as replicas:
        replicas.upstream.on("dear", answers(usage=(7, MAX_TOKENS), hold_after=0))

        async def abort() -> None:
            async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as client:

                async def ask(number: int) -> None:
                    await asyncio.sleep(number * BREATH_S)
                    await replicas.ask(client, number, stream=bool(number % 2))

                calls = [asyncio.create_task(ask(number)) for number in range(n_calls)]
                async with asyncio.timeout(120):
                    while len(replicas.upstream.to("dear")) < n_calls:  # noqa: ASYNC110  # told by another thread
                        await asyncio.sleep(0.05)
                for call in calls[: n_calls // 2]:
                    call.cancel()
                replicas.servers[1].process.kill()
                await asyncio.gather(*calls[: n_calls // 2], return_exceptions=True)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(abort())
        replicas.servers[1].process.wait()
        killed_s = time.monotonic()
        found = replicas.wait(reserved_nusd=0)
        assert found["spent_nusd"] == n_calls * CALL, "whoever gave up may have been served: the estimate is spent"
        replicas.servers.pop()
        replicas.upstream.on("dear", answers(usage=(7, MAX_TOKENS)))
        assert asyncio.run(replicas.ask_all(2)) in ([200, 429], [429, 200])
        with replicas.servers[0].admin() as admin:
            admin.patch(f"/api/v1/budgets/{replicas.budget_id}", json={"amount_nusd": 100 * DOLLAR}).raise_for_status()
        time.sleep(max(1.0, killed_s + SLOTS_RETURN_S - time.monotonic()))
        replicas.upstream.on("dear", answers(usage=(7, MAX_TOKENS), hold_after=0))
        assert set(asyncio.run(_held(replicas, N_AT_ONCE, every_s=BREATH_S))) == {200}, (
            "all slots at once, those of the dead included"
        )
