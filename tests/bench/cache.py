"""What the cache costs, in microseconds of CPU: `.venv/bin/python tests/bench/cache.py`.

Memory as it is mounted, with its timing around it, and a real meter; then Valkey, a real one on this machine, where CPU
is this process's alone; and compression, of an answer and of a vector, at several lengths. The best of several rounds.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cache_replicas import replicas
from plugins.cache.memory import MemoryCache
from plugins.cache.timed import TimedCache
from plugins.contract.principal import TenantId
from valkey_server import running_valkey

BAR_US = 20.0
"""Of issue 7: what a look-up in memory that misses may add."""

ROUNDS = 7
TENANT = TenantId(uuid.uuid4())
QUESTION = (b'{"messages":[{"role":"user","content":"' + b"x" * 1000 + b'"}]}', "gpt", "chat")


async def best_us(call: Callable[[int], Awaitable[object]], n_calls: int) -> float:
    found = []
    for _ in range(ROUNDS):
        began_ns = time.process_time_ns()
        for n in range(n_calls):
            await call(n)
        found.append((time.process_time_ns() - began_ns) / n_calls / 1000)
    return min(found)


async def memory() -> dict[str, float]:
    cache = TimedCache(MemoryCache(max_bytes=1 << 26, max_entry_bytes=1 << 20))
    keys = [cache.create_key(TENANT, "answers-v1", [str(n)]) for n in range(1000)]
    for key in keys:
        await cache.set(key, b"x" * 2000, ttl_s=600)

    async def produce() -> bytes:
        return b"x" * 2000

    async def look_up(_: int) -> None:
        await cache.get(cache.create_key(TENANT, "answers-v1", QUESTION))

    n = iter(range(10**9))
    return {
        "memory: get, hit": await best_us(lambda i: cache.get(keys[i % 1000]), 20_000),
        "memory: key of 1 kB and get, miss": await best_us(look_up, 20_000),
        "memory: set 2 kB": await best_us(lambda i: cache.set(keys[i % 1000], b"x" * 2000, ttl_s=600), 20_000),
        "memory: set 2 kB, one tag": await best_us(
            lambda i: cache.set(keys[i % 1000], b"x" * 2000, ttl_s=600, tags=["t"]), 20_000
        ),
        "memory: get_or_set, hit": await best_us(lambda i: cache.get_or_set(keys[i % 1000], produce, ttl_s=9), 20_000),
        "memory: get_or_set, miss": await best_us(lambda _: cache.get_or_set(str(next(n)), produce, ttl_s=9), 5_000),
    }


async def valkey() -> dict[str, float]:
    with running_valkey() as server:
        async with replicas(server.url, 1, memory_bytes=1) as (replica,):
            cache, n = replica.cache, iter(range(10**9))

            async def produce() -> bytes:
                return b"x" * 2000

            key, missing = (cache.create_key(TENANT, "answers-v1", [part]) for part in ("there", "not"))
            await cache.set(key, b"x" * 2000, ttl_s=600, tags=["t"])
            found = {
                "valkey: get, hit 2 kB, one tag": await best_us(lambda _: cache.get(key), 500),
                "valkey: get, miss": await best_us(lambda _: cache.get(missing), 500),
                "valkey: set 2 kB": await best_us(lambda _: cache.set(key, b"x" * 2000, ttl_s=600, tags=["t"]), 500),
                "valkey: get_or_set, miss": await best_us(
                    lambda _: cache.get_or_set(str(next(n)), produce, ttl_s=9), 300
                ),
            }
            server.kill()
            await cache.beat()
            return {**found, "valkey away: get, miss": await best_us(lambda _: cache.get(missing), 20_000)}


def compression() -> dict[str, list[float]]:
    """Length, part that is left, µs to compress, µs to uncompress."""
    words = Path(__file__).read_text().split()
    source = random.Random(1)
    found: dict[str, list[float]] = {}
    for n_bytes in (1024, 4096, 16_384, 131_072):
        text = " ".join(source.choice(words) for _ in range(n_bytes))[:n_bytes].encode()
        vector = struct.pack(f"<{n_bytes // 4}f", *(source.gauss(0, 0.05) for _ in range(n_bytes // 4)))
        for kind, value in (("text", text), ("vector", vector)):
            short = zlib.compress(value, 1)
            times = []
            for work in (lambda v=value: zlib.compress(v, 1), lambda s=short: zlib.decompress(s)):
                began_ns = time.process_time_ns()
                for _ in range(50):
                    work()
                times.append(round((time.process_time_ns() - began_ns) / 50_000, 1))
            found[f"zlib 1: {kind} of {n_bytes}"] = [round(len(short) / n_bytes, 2), *times]
    return found


async def main() -> None:
    rows = {name: round(us, 2) for name, us in {**await memory(), **await valkey()}.items()}
    print(json.dumps({**rows, **compression(), "bar": BAR_US}, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
