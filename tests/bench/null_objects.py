"""What a plugin that is off costs: one call to each null object, in nanoseconds. Run it as a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from plugins.contract.nulls import NullCache, NullGuard, NullMeter, NullSlowLog
from plugins.contract.principal import TenantId

ROUNDS = 5
CALLS = 200_000


def best_ns(call: Callable[[], object]) -> float:
    """The best of several rounds: the rest is the machine's other work."""
    found: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(CALLS):
            call()
        found.append((time.perf_counter_ns() - began) / CALLS)
    return min(found)


async def best_awaited_ns(call: Callable[[], Awaitable[object]]) -> float:
    found: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(CALLS):
            await call()
        found.append((time.perf_counter_ns() - began) / CALLS)
    return min(found)


async def main() -> None:
    counter = NullMeter().counter("calls", "Calls", ("result",))
    cache, guard, slow_log, tenant = NullCache(), NullGuard(), NullSlowLog(), TenantId(UUID(int=1))

    async def attempt() -> None: ...

    loop_ns = best_ns(lambda: None)
    plain_ns = await best_awaited_ns(attempt)
    rows = {
        "meter: counter.add": best_ns(lambda: counter.add(1, "ok")) - loop_ns,
        "slow_log: took": best_ns(lambda: slow_log.took("request", "x", 1.0)) - loop_ns,
        "cache: create_key": best_ns(lambda: cache.create_key(tenant, "chat", ("a", "b"))) - loop_ns,
        "cache: get": await best_awaited_ns(lambda: cache.get("")) - loop_ns,
        "guard: call, beside the attempt itself": await best_awaited_ns(lambda: guard.call("t", attempt, retry=True))
        - plain_ns,
    }
    for name, ns in rows.items():
        print(f"{name:<42}{ns:7.0f} ns")


if __name__ == "__main__":
    asyncio.run(main())
