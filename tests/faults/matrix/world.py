"""Two replicas, one PostgreSQL, one Valkey, and two targets behind one alias: what the faults are done to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from faults.matrix.postgres_server import PostgresServer
from gateway import PRICED
from server import RunningServer, environment, start
from slow_proxy import SlowProxy, slow_proxy
from upstream import API_KEY, Upstream, running_upstream
from valkey_server import ValkeyServer, running_valkey

TARGETS = ("first", "second")

TIMES_S = {"connect_timeout": 1, "first_token_timeout": 1, "silence_timeout": 1, "timeout": 1}
"""What a target may take. The scripted vendor answers in milliseconds; a real one gets the defaults, and a caller then
waits that long for a target that hangs until its breaker opens."""

BUDGET_NUSD = 10_000_000_000_000
"""$10,000: nothing here comes near it, and every call must reserve of it."""

LIMIT = 1_000_000
"""A minute: likewise."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Of one fault, in seconds."""

    lead_in_s: float
    """Healthy, after one second to warm up."""
    hold_s: float
    settling_s: float
    """Breakers open meanwhile; see `Row.p99_during_ms`."""
    reset_timeout_s: float
    give_up_s: float
    """How long what was broken is waited for afterwards: over all bars."""


class World:
    """Everything is up when it is handed out."""

    def __init__(
        self,
        replicas: Sequence[RunningServer],
        postgres: PostgresServer,
        valkey: ValkeyServer,
        proxy: SlowProxy | None,
        upstreams: Sequence[Upstream],
        key: str,
    ) -> None:
        self.replicas = replicas
        self.postgres = postgres
        self.valkey = valkey
        self.first, self.second = upstreams
        self.key = key
        self.killed: set[int] = set()
        self._proxy = proxy

    @property
    def proxy(self) -> SlowProxy:
        """Between the replicas and Valkey; only where a fault needs it, as it hides a refused connection."""
        assert self._proxy is not None
        return self._proxy

    def living(self) -> list[int]:
        return [number for number in range(len(self.replicas)) if number not in self.killed]

    def kill_replica(self, number: int) -> None:
        self.killed.add(number)
        _end(self.replicas[number])


@asynccontextmanager
async def running_world(
    directory: Path, postgres: PostgresServer, database_url: str, timing: Timing, *, through_proxy: bool
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(running_valkey(settings={"maxmemory-policy": "noeviction"}))
        proxy = await stack.enter_async_context(slow_proxy(valkey.port)) if through_proxy else None
        upstreams = [stack.enter_context(running_upstream()) for _ in TARGETS]
        models = directory / "models.yaml"
        models.write_text(json.dumps(_models(upstreams)))
        env = {
            "DATABASE_URL": database_url,
            "VALKEY_URL": f"redis://127.0.0.1:{proxy.port}" if proxy else valkey.url,
            "MODELS_CONFIG": str(models),
            "LOCAL_MODELS_ENABLED": "false",
            "WORKER_ENABLED": "false",
            "CIRCUIT_BREAKER_RESET_TIMEOUT": str(int(timing.reset_timeout_s * 1000)),
            # The matrix itself asks with unknown keys, from one address.
            "PLUGINS_SECURITY_ADDRESS_REQUESTS_PER_MINUTE": "0",
        }
        replicas: list[RunningServer] = []
        for name in ("a", "b"):
            replica = start(environment(directory / name, **env), directory / f"{name}.log")
            stack.callback(_end, replica)
            replicas.append(replica)
        await asyncio.gather(*(asyncio.to_thread(replica.wait_until_ready) for replica in replicas))
        key = await asyncio.to_thread(_limited_key, replicas[0])
        yield World(replicas, postgres, valkey, proxy, upstreams, key)


def _models(upstreams: Sequence[Upstream]) -> dict[str, object]:
    return {
        "model_list": [
            {
                "model_name": "chat",
                "litellm_params": {
                    "model": f"openai/{name}",
                    "api_base": upstream.url,
                    "api_key": API_KEY,
                    **TIMES_S,
                    **PRICED,
                },
                "model_info": {"id": name},
            }
            for name, upstream in zip(TARGETS, upstreams, strict=True)
        ]
    }


def _limited_key(replica: RunningServer) -> str:
    """A key whose calls need a share of limits and money of a budget."""
    key = replica.make_key("matrix")
    headers = {"authorization": f"Bearer {key}"}
    me = httpx.get(f"{replica.url}/api/v1/auth/me", headers=headers, timeout=30).raise_for_status().json()
    limit = {"requests_per_minute": LIMIT, "tokens_per_minute": LIMIT * 1000, "max_concurrency": 1000}
    budget = {"scope_id": me["tenant_id"], "scope": "tenant", "amount_nusd": BUDGET_NUSD, "period": "month"}
    with replica.admin() as api:
        api.put("/api/v1/limits", json={"scope": "key", "scope_id": me["key_id"], **limit}).raise_for_status()
        api.post("/api/v1/budgets", json=budget).raise_for_status()
    return key


def _end(replica: RunningServer) -> None:
    if replica.process.poll() is None:
        os.killpg(replica.process.pid, signal.SIGKILL)
        replica.process.wait()
