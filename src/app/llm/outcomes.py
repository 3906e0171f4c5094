"""How the last call to each target went: what health says of vendors, who are never called for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from plugins.contract.errors import CircuitOpen, WattosError


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """`code`: the error's own."""

    code: str
    at: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class LastOutcomes:
    """Of one process, in memory. A call that the caller gave up, or that was wrong itself, says nothing of a target."""

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self._now = now
        self._failures: dict[str, str] = {}
        self._errors: dict[str, LastError] = {}

    def answered(self, target_id: str) -> None:
        self._failures.pop(target_id, None)

    def failed(self, target_id: str, exc: WattosError) -> None:
        if not isinstance(exc, CircuitOpen):  # nothing was sent
            self._failures[target_id] = exc.code
            self._errors[target_id] = LastError(code=exc.code, at=self._now())

    def failure_of(self, target_id: str) -> str | None:
        """The error's code; None after an answer, and while no call was sent."""
        return self._failures.get(target_id)

    def last_error_of(self, target_id: str) -> LastError | None:
        """Answers since then or not."""
        return self._errors.get(target_id)
