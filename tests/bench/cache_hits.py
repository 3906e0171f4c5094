"""CPU of a cache hit and of a miss: `.venv/bin/python tests/bench/cache_hits.py [--seconds N]`.

A hit: a real server with everything on (all plugins, Valkey, a key with limits), asked the same again and again on ten
connections; its own process's time by the kernel's books, and the cache's part of it in this process, from memory. A
miss: in this process, what the look-up adds to a call that is not kept, from memory. Prints JSON. The bars are 0.25 ms
and 0.02 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.llm.answers import Completed
from app.llm.caching import NEVER, CacheWish
from app.llm.model import Call, Plan, Reply, Target
from app.response_cache.service import CachedChain
from bench.gateway.cases import MODEL
from bench.gateway.client import Connection
from bench.gateway.processes import cpu
from bench.gateway.servers import Measured, vendor, wattos, write_models
from plugins.cache.memory import MemoryCache
from plugins.cache.timed import TimedCache
from plugins.contract.nulls import NullMeter
from valkey_server import running_valkey

N_CONNECTIONS = 10
ROUNDS = 5
N_SLICES, N_CALLS = 100, 100
"""Of misses: the best slice counts, the others are the machine's other work."""

USUAL_S = 0.27
"""Of `calibration_s` on the machine that the bars are for."""

PROMPTS = {"60 B": 60, "4 kB": 4_000, "100 kB": 100_000}


def calibration_s() -> float:
    """Five million additions: how slow the machine is now."""
    began_s, total = time.perf_counter(), 0
    for number in range(5_000_000):
        total += number
    return time.perf_counter() - began_s


def request(server: Measured, n_bytes: int, **fields: Any) -> bytes:
    content = ("Say something about foxes and dogs, please. " * (n_bytes // 40 + 1))[:n_bytes]
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Caller:
    """Asks the same again as soon as it is answered. An `Exchange` of its connection."""

    def __init__(self, wire: bytes, is_stream: bool, until_s: float) -> None:
        self._wire = wire
        self._is_stream = is_stream
        self._until_s = until_s
        self.n_calls = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(lambda: Connection(time.perf_counter), "127.0.0.1", port)
        self._send()
        await self.done
        self._connection.abort("done")

    def _send(self) -> None:
        self._connection.send(self._wire, self, is_stream=self._is_stream)

    def answered(self, error: str | None, first_byte_at: float) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(RuntimeError(error))
            return
        self.n_calls += 1
        if time.monotonic() < self._until_s:
            self._send()
        else:
            self.done.set_result(None)


async def cpu_ms(server: Measured, wire: bytes, *, is_stream: bool, seconds: float) -> float:
    """A request, of the server's own process."""
    before = cpu(server.pid)
    callers = [Caller(wire, is_stream, time.monotonic() + seconds) for _ in range(N_CONNECTIONS)]
    await asyncio.gather(*(caller.run(server.port) for caller in callers))
    return (cpu(server.pid) - before).own_ns / 1e6 / sum(caller.n_calls for caller in callers)


async def hits(server: Measured, seconds: float) -> dict[str, dict[str, float]]:
    """Of some rounds, the kinds in turns: their median, and the best."""
    cases: dict[str, tuple[bytes, bool]] = {}
    for name, n_bytes in PROMPTS.items():
        cases[f"whole, {name}"] = request(server, n_bytes, cache={"mode": "readwrite"}), False
        cases[f"stream, {name}"] = request(server, n_bytes, cache={"mode": "readwrite"}, stream=True), True
    cases["not kept, whole, 60 B"] = request(server, 60), False
    for wire, is_stream in cases.values():
        await cpu_ms(server, wire, is_stream=is_stream, seconds=0.3)
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (wire, is_stream) in cases.items():
            found[name].append(await cpu_ms(server, wire, is_stream=is_stream, seconds=seconds))
    return {
        name: {"median": round(statistics.median(values), 4), "best": round(min(values), 4)}
        for name, values in found.items()
    }


class Answering:
    """A `Chain` that has the answer."""

    def __init__(self, target: Target) -> None:
        body = json.dumps({"choices": [{"message": {"content": "fox " * 100}, "finish_reason": "stop"}]}).encode()
        self._done = Completed(reply=Reply(body=body, usage=None), target=target, attempts=1, cost_nusd=1)

    async def complete(self, call: Call, plan: Plan) -> Completed:
        return self._done

    def cached(self, call: Call, target_id: str) -> None:
        pass


async def of_the_cache() -> dict[str, dict[str, float]]:
    """In ms, from memory: what a miss adds to a call that is not kept, its key and a look-up in vain; and all of a hit
    but its entry in the ledger, in excess of asking a chain that has the answer."""
    target = Target(id="openai/mock", alias=MODEL, provider_model="openai/mock", transport="direct")
    cache = TimedCache(MemoryCache(max_bytes=1 << 26, max_entry_bytes=1 << 20))
    chain: Any = Answering(target)
    cached, plan = CachedChain(chain, cache, state="miss", meter=NullMeter()), Plan(targets=(target,))

    async def best_ms(call: Call, wish: CacheWish) -> float:
        best = float("inf")
        for _ in range(N_SLICES):
            began_s = time.process_time()
            for _ in range(N_CALLS):
                await cached.complete(call, plan, wish)
            best = min(best, (time.process_time() - began_s) / N_CALLS)
        return best * 1000

    found: dict[str, dict[str, float]] = {"miss": {}, "hit": {}}
    for name, n_bytes in PROMPTS.items():
        content = ("Say something about foxes and dogs, please. " * (n_bytes // 40 + 1))[:n_bytes]
        values: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0.2,
        }
        fields = {field: msgspec.Raw(msgspec.json.encode(value)) for field, value in values.items()}
        call = Call(alias=MODEL, fields=fields, tenant_id=UUID(int=1))
        plain = await best_ms(call, NEVER)
        found["miss"][name] = round(await best_ms(call, CacheWish(mode="read")) - plain, 4)
        found["hit"][name] = round(await best_ms(call, CacheWish(mode="readwrite")) - plain, 4)
    return found


def measured(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, running_valkey() as valkey, vendor() as upstream:
        directory = Path(name)
        models = directory / "models.yaml"
        write_models(models, upstream.port, "unused")
        env = {"VALKEY_URL": valkey.url}
        with wattos(directory / "data", models, directory / "server.log", env) as server:
            return asyncio.run(hits(server, seconds))


def in_turn(seconds: float) -> dict[str, Any]:
    before_s = calibration_s()
    found: dict[str, Callable[[], Any]] = {
        "hit_cpu_ms": lambda: measured(seconds),
        "of_the_cache_ms": lambda: asyncio.run(of_the_cache()),
    }
    results = {name: act() for name, act in found.items()}
    return {**results, "calibration_s": [round(before_s, 3), round(calibration_s(), 3)], "usual_calibration_s": USUAL_S}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind in each round")
    print(json.dumps(in_turn(parser.parse_args().seconds), indent=1))
