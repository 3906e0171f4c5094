"""Calls to something that fails, guarded: a breaker around each, retries where they do no harm."""

import asyncio
from collections.abc import Awaitable, Callable

from plugins.contract.errors import CircuitOpen, RetryableError
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.use import standalone

Fetch = Callable[[], Awaitable[str]]


async def report(fetch: Fetch) -> list[str]:
    """What became of each call of `fetch`, which raises ConnectionError while the weather service is away."""
    guard = standalone(ResilienceSettings(circuit_breaker_failure_threshold=5, retry_initial_delay=10))
    seen: list[str] = []

    @guard.protect("weather", retry=True)
    async def weather() -> str:
        try:
            return await fetch()
        except ConnectionError as exc:  # only what is retryable counts, and is tried again
            raise RetryableError("the weather service is away") from exc

    for _ in range(3):
        try:
            seen.append(await weather())
        except CircuitOpen as exc:
            seen.append(f"not asked, for another {exc.retry_after_s:.0f} s")
        except RetryableError:
            seen.append("failed")

    try:
        async with guard("weather"):  # a block: the same breaker, and no retry
            seen.append(await fetch())
    except CircuitOpen:
        seen.append("not asked")
    return [*seen, guard.status("weather").state]


if __name__ == "__main__":

    async def away() -> str:
        raise ConnectionError

    print(asyncio.run(report(away)))
