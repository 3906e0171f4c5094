"""A dependency's health, and how the whole follows from its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

Status = Literal["healthy", "degraded", "unhealthy"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask one dependency. `probe` raises when it is not well; its error's message must be safe to show."""

    name: str
    critical: bool
    probe: Callable[[], Awaitable[None]]


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the dependency said. `response_time_ms` is wall time of the probe."""

    name: str
    status: Status
    critical: bool
    response_time_ms: float
    message: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The whole: `degraded` when something non-critical is away, `unhealthy` when something critical is."""

    status: Status
    version: str
    uptime_s: float
    checks: tuple[CheckResult, ...]


def overall(results: Sequence[CheckResult]) -> Status:
    if any(r.critical and r.status == "unhealthy" for r in results):
        return "unhealthy"
    return "degraded" if any(r.status != "healthy" for r in results) else "healthy"
