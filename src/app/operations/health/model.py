"""A dependency's health, and how the whole follows from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Status = Literal["healthy", "degraded", "unhealthy"]

LEVELS: dict[Status, int] = {"unhealthy": 0, "degraded": 1, "healthy": 2}
"""As the gauges `health_status` and `health_check_status` show them."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the dependency said last. `response_time_ms` is wall time of the probe, `age_s` how long ago it was."""

    name: str
    status: Status
    """`degraded`: a critical dependency is away, and its duty is still covered."""
    critical: bool
    response_time_ms: float
    age_s: float
    message: str = ""
    meanwhile: str = ""
    """What stands in while it is not well."""


class TargetCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Models at vendors, and how many of them are away."""

    total: int
    unhealthy: int


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole: `degraded` when something non-critical is away, `unhealthy` when something critical is."""

    status: Status
    version: str
    uptime_s: float
    checks: tuple[CheckResult, ...]
    """Those of targets are for operators alone: who else asks gets their number."""
    targets: TargetCounts
    degraded: tuple[str, ...]
    """Names of the checks that are not well: what is said of each has what stands in for it."""
    breakers: Mapping[str, str]
    """`closed`, `open` or `half_open`, by dependency, once it was called. Those of targets are in their checks."""
    draining: bool = False
    """This process was told to stop: it answers, and should get no new requests."""

    @property
    def is_ready(self) -> bool:
        return self.status != "unhealthy" and not self.draining


def overall(results: Sequence[CheckResult]) -> Status:
    if any(r.critical and r.status == "unhealthy" for r in results):
        return "unhealthy"
    return "degraded" if any(r.status != "healthy" for r in results) else "healthy"
