"""Asks all dependencies at once, each within a time-out, so that a hanging one cannot hang the probe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from app.operations.health.model import Check, CheckResult, Health, overall
from plugins.contract.errors import WattosError

TIMEOUT_S = 2.0
"""Below the 3 s that probes commonly wait."""


class HealthService:
    """`checks` of one process; `started` is when it began, in monotonic seconds."""

    def __init__(self, checks: Sequence[Check], version: str) -> None:
        self._checks = tuple(checks)
        self._version = version
        self._started = time.monotonic()

    async def report(self) -> Health:
        results = await asyncio.gather(*(self._ask(check) for check in self._checks))
        return Health(
            status=overall(results),
            version=self._version,
            uptime_s=round(time.monotonic() - self._started, 1),
            checks=tuple(results),
        )

    async def _ask(self, check: Check) -> CheckResult:
        began = time.perf_counter()
        message = ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await check.probe()
        except TimeoutError:
            message = f"no answer within {TIMEOUT_S:g} s"
        except WattosError as exc:
            message = exc.message
        except Exception:  # noqa: BLE001  # a probe may fail in any way; the text of an unknown error is not safe to show
            message = "not available"
        return CheckResult(
            name=check.name,
            status="unhealthy" if message else "healthy",
            critical=check.critical,
            response_time_ms=round((time.perf_counter() - began) * 1000, 2),
            message=message,
        )
