"""What litellm's own SDK costs a call, in a process of its own: what the `bridge` is measured against.

    PYTHONPATH=tests .venv/bin/python -m bench.gateway.sdk PORT SECONDS

Ten callers of `litellm.acompletion`, as `plain-60-10` has ten connections. Prints JSON: `n_calls` and `cpu_ms`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import count

import litellm
import uvloop

from bench.gateway.cases import MODEL

N_CALLERS = 10
N_WARM_UP = 50


async def measure(port: int, seconds: float) -> dict[str, float]:
    numbers = count()

    async def call() -> None:
        messages = [{"role": "user", "content": f"{next(numbers):08d} Say something about foxes and dogs, please."}]
        await litellm.acompletion(
            model=f"openai/{MODEL}",
            api_base=f"http://127.0.0.1:{port}/v1",
            api_key="sk-upstream",
            messages=messages,
            timeout=60,
            max_retries=0,
        )

    async def calls_until(at: float) -> int:
        n_calls = 0
        while time.perf_counter() < at:
            await call()
            n_calls += 1
        return n_calls

    for _ in range(N_WARM_UP):
        await call()
    at, before = time.perf_counter() + seconds, time.process_time()
    n_calls = sum(await asyncio.gather(*(calls_until(at) for _ in range(N_CALLERS))))
    return {"n_calls": n_calls, "cpu_ms": (time.process_time() - before) * 1000 / n_calls}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(int(sys.argv[1]), float(sys.argv[2])))))
