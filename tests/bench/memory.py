"""Whether the server's memory grows with the number of requests: 100,000 of mixed kinds against one server.

    .venv/bin/python tests/bench/memory.py [--requests 100000]

Everything is on; the log goes to a file. Of ten requests six are chats out of the cache (50 different ones), two ask
for the models, one is a 404 on a path of its own, one has a bad key. RSS (of the server alone, not its children) is
read every twentieth. Growth over the last half: a straight line through its samples, in percent of the half's first.
Prints the samples and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gateway import Gateway, running_gateway
from upstream import answers

BAR_PERCENT = 2.0
"""Of issue 3: growth over the last half of 100,000 requests."""

CONNECTIONS = 10
N_SAMPLES = 20
N_CHATS = 50
MIB = 1024 * 1024


def rss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


async def one(session: aiohttp.ClientSession, number: int) -> None:
    kind = number % 10
    if kind < 6:
        messages = [{"role": "user", "content": f"ping {number % N_CHATS}"}]
        body = {"model": "chat", "messages": messages, "cache": {"mode": "readwrite", "ttl_s": 86_400}}
        request, expected = session.post("/v1/chat/completions", json=body), 200
    elif kind < 8:
        request, expected = session.get("/v1/models"), 200
    elif kind == 8:
        request, expected = session.get(f"/v1/nowhere/{number}"), 404
    else:
        headers = {"authorization": f"Bearer sk-wattos-{number:043d}"}
        request, expected = session.get("/v1/models", headers=headers), 401
    async with request as answer:
        await answer.read()
        assert answer.status == expected, (answer.status, await answer.text())


async def drive(gateway: Gateway, n_requests: int) -> list[int]:
    """Returns: RSS in bytes after each of N_SAMPLES equal parts."""
    samples = []
    headers = {"authorization": f"Bearer {gateway.key}"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(gateway.server.url, connector=connector, headers=headers) as session:
        for number in range(N_CHATS):  # litellm's import and the cache's filling are not growth
            await one(session, number)
        per_sample = n_requests // N_SAMPLES
        for part in range(N_SAMPLES):
            numbers = iter(range(part * per_sample, (part + 1) * per_sample))

            async def some(numbers: object = numbers) -> None:
                for number in numbers:  # type: ignore[attr-defined]
                    await one(session, number)

            began_s = time.monotonic()
            await asyncio.gather(*(some() for _ in range(CONNECTIONS)))
            samples.append(rss_bytes(gateway.server.process.pid))
            rate = per_sample / (time.monotonic() - began_s)
            n_done, size_mib = (part + 1) * per_sample, samples[-1] / MIB
            print(f"{n_done:>8} requests  {size_mib:8.2f} MiB  {rate:6.0f} a second", flush=True)
    return samples


def growth_percent(samples: list[int]) -> float:
    """Of a straight line through the last half."""
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(range(len(half)), half).slope
    return slope * (len(half) - 1) / half[0] * 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    asked = parser.parse_args()
    env = {"LOCAL_MODELS_ENABLED": "false"}
    with tempfile.TemporaryDirectory() as directory, running_gateway(Path(directory), env) as gateway:
        gateway.upstream.on("gpt", answers("pong"))
        samples = asyncio.run(drive(gateway, asked.requests))
    growth = growth_percent(samples)
    print(f"growth over the last half: {growth:.2f} % (bar: {BAR_PERCENT} %)")
    print(json.dumps({"requests": asked.requests, "rss_bytes": samples, "growth_percent": round(growth, 3)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
