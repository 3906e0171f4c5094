"""Operations that took longer than their kind should: one line each, at `warn`, with their name and `durationMs`."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from plugins.contract.ports import OperationKind

LOGGER = logging.getLogger("wattos.slow")


class SlowOperations:
    """The `SlowLog` port."""

    def __init__(self, thresholds_ms: Mapping[OperationKind, float]) -> None:
        self._thresholds_ms = thresholds_ms

    def took(self, kind: OperationKind, name: str, duration_ms: float) -> None:
        if duration_ms >= self._thresholds_ms[kind]:
            fields = {
                "kind": kind,
                "operation": name,
                "durationMs": round(duration_ms, 2),
                "thresholdMs": self._thresholds_ms[kind],
            }
            LOGGER.warning("slow operation", extra=fields)
