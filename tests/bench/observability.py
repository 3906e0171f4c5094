"""What the observability plugin costs: CPU time of the server's process a call, with the plugin on and off in turn.

    .venv/bin/python tests/bench/observability.py [--calls 4000] [--rounds 7]

Two real servers stand side by side, one with the plugin and one without, everything else on; each round drives both, in
turns, and compares. CPU time is the scheduler's, of all threads, so waiting and other processes hardly count; children
(PostgreSQL) are other processes. The log goes to a file. Three routes: `models` (GET /v1/models), `hit`
(a chat answered from the cache) and `chat` (through litellm to a scripted upstream: its 3 ms of CPU are noise here).
Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gateway import Gateway, running_gateway
from upstream import answers

BAR_MS = 0.06
"""Of issue 3: observability on against off, CPU a call."""

CONNECTIONS = 10


def cpu_ns(pid: int) -> int:
    """CPU time of a process so far, of all threads that live, without its children: the scheduler's own book, which
    counts ns where utime and stime of /proc/PID/stat count 10 ms."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


@contextmanager
def gateways(directory: Path) -> Iterator[dict[str, Gateway]]:
    with ExitStack() as stack:
        found = {}
        for state in ("on", "off"):
            enabled = "true" if state == "on" else "false"
            (directory / state).mkdir()
            env = {"LOCAL_MODELS_ENABLED": "false", "PLUGINS_OBSERVABILITY_ENABLED": enabled}
            found[state] = stack.enter_context(running_gateway(directory / state, env))
            found[state].upstream.on("gpt", answers("pong"))
        yield found


def request_of(route: str) -> tuple[str, str, dict[str, object] | None]:
    if route == "models":
        return "GET", "/v1/models", None
    body: dict[str, object] = {"model": "chat", "messages": [{"role": "user", "content": "ping"}]}
    if route == "hit":
        body["cache"] = {"mode": "readwrite", "ttl_s": 3600}
    return "POST", "/v1/chat/completions", body


async def drive(gateway: Gateway, route: str, n_calls: int) -> float:
    """Returns: milliseconds of the server's CPU a call."""
    method, path, body = request_of(route)
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    pid = gateway.server.process.pid
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(gateway.server.url, connector=connector, headers=headers) as session:

        async def some(n: int) -> None:
            for _ in range(n):
                async with session.request(method, path, data=data) as answer:
                    await answer.read()
                    assert answer.status == 200, await answer.text()

        await some(20)
        before = cpu_ns(pid)
        await asyncio.gather(*(some(n_calls // CONNECTIONS) for _ in range(CONNECTIONS)))
        return (cpu_ns(pid) - before) / 1e6 / (n_calls // CONNECTIONS * CONNECTIONS)


async def measure(found: dict[str, Gateway], route: str, n_calls: int, n_rounds: int) -> dict[str, float]:
    on, off = [], []
    for number in range(n_rounds):
        for state in ("on", "off") if number % 2 else ("off", "on"):
            (on if state == "on" else off).append(await drive(found[state], route, n_calls))
    differences = [a - b for a, b in zip(on, off, strict=True)]
    return {
        "on_ms": round(statistics.median(on), 4),
        "off_ms": round(statistics.median(off), 4),
        "difference_ms": round(statistics.median(differences), 4),
        "lowest_ms": round(min(differences), 4),
        "highest_ms": round(max(differences), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4000, help="a round, server and route (chat: a tenth)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--routes", nargs="*", default=["models", "hit", "chat"])
    asked = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory, gateways(Path(directory)) as found:
        for route in asked.routes:
            n_calls = asked.calls // 10 if route == "chat" else asked.calls
            results[route] = asyncio.run(measure(found, route, n_calls, asked.rounds))
            row = results[route]
            print(
                f"{route:<8} on {row['on_ms']:.3f} ms  off {row['off_ms']:.3f} ms"
                f"  difference {row['difference_ms']:.4f} ms"
                f"  ({row['lowest_ms']:.4f} … {row['highest_ms']:.4f})"
            )
    print(json.dumps({"bar_ms": BAR_MS, "calls": asked.calls, "rounds": asked.rounds, **results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
