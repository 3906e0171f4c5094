"""What was tried for one request, and the one error that says so when nothing helped."""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import AllTargetsFailed
from app.llm.model import Target
from plugins.contract.errors import Attempt, Overloaded, WattosError

MAX_TOLD = 20
"""Attempts that an error lists: a chain of five with three retries each."""


class Attempts:
    """The failures of one request, in order. `n_sent` counts the calls that were really sent, to all targets."""

    __slots__ = ("failures", "n_sent", "under_way")

    def __init__(self) -> None:
        self.n_sent = 0
        self.under_way: Target | None = None
        """Once the walk has ended, or pauses: whose answer was awaited, or had come."""
        self.failures: list[tuple[Target, WattosError, float]] = []

    @property
    def last_asked(self) -> Target | None:
        return self.under_way or (self.failures[-1][0] if self.failures else None)

    def failed(self, target: Target, exc: WattosError, ms: float) -> None:
        self.failures.append((target, exc, ms))

    def raised(self, exc: WattosError) -> WattosError:
        """The same error, which now tells what was tried."""
        exc.attempts = tuple(
            Attempt(target=target.id, status=getattr(failure, "status", None), code=failure.code, ms=round(ms, 1))
            for target, failure, ms in self.failures[:MAX_TOLD]
        )
        return exc

    def summary(self) -> WattosError:
        """The last failure itself where one target alone was asked, or all have too many calls; else one error that
        names them."""
        of_targets: dict[str, WattosError] = {}
        for target, exc, _ in self.failures:
            of_targets[target.id] = exc
        if len(of_targets) == 1 or all(isinstance(exc, Overloaded) for exc in of_targets.values()):
            return self.raised(self.failures[-1][1])
        tried = ", ".join(f"{target_id} ({exc.code})" for target_id, exc in of_targets.items())
        return self.raised(
            AllTargetsFailed(f"no target could answer: {tried}", retry_after_s=_shortest_wait(of_targets.values()))
        )


def _shortest_wait(failures: Iterable[WattosError]) -> float | None:
    waits = [s for exc in failures if (s := getattr(exc, "retry_after_s", None)) is not None]
    return min(waits, default=None)
