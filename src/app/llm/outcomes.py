"""How the last call to each target went: what health says of vendors, who are never called for it."""

from __future__ import annotations

from plugins.contract.errors import CircuitOpen, WattosError


class LastOutcomes:
    """Of one process, in memory. A call that the caller gave up, or that was wrong itself, says nothing of a target."""

    def __init__(self) -> None:
        self._failures: dict[str, str] = {}

    def answered(self, target_id: str) -> None:
        self._failures.pop(target_id, None)

    def failed(self, target_id: str, exc: WattosError) -> None:
        if not isinstance(exc, CircuitOpen):  # nothing was sent
            self._failures[target_id] = exc.code

    def failure_of(self, target_id: str) -> str | None:
        """The error's code; None after an answer, and while no call was sent."""
        return self._failures.get(target_id)
