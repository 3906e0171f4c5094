"""What one run of the fault matrix found, as it is kept in docs/resilience.json, and the bars it is held against."""

from __future__ import annotations

import msgspec

MAX_ADDED_P99_MS = 250.0
MAX_MEMORY_RATIO = 1.5
MAX_LOG_BYTES = 10_000.0
"""A request."""
MAX_DEPENDENCY_BACK_S = 10.0
"""Until a dependency is used again. This and those above: issue 7."""
TARGET_BACK_AFTER_RESET_S = 5.0
"""Until the first target is used again: so long after the breaker's reset time. Issue 7."""
BUSY_LOAD = 0.5
"""Other work from which on the times say little: the bench's own bound."""

FULL_HOLD_S = 60.0
"""A run with shorter faults only shows that the matrix works."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, or two at once."""

    fault: str
    n_calls: int
    """From the moment the fault began until all that was broken was used again."""
    n_cached: int
    """Of these, answered from the cache: it was in use."""
    failures: dict[str, int]
    """Calls that a healthy path could have served and that failed, by how."""
    n_cut: int
    """Answers that a killed replica had begun: no other could have gone on with them."""
    p99_before_ms: float
    p99_during_ms: float
    """Of calls that began when the fault had lasted for `Results.settling_s`, and before it was over."""
    slowest_ms: float
    """Of all calls, those before the breakers opened too."""
    memory_ratio: float
    """Of the replica that grew most: its largest resident set since the fault began, by its largest before."""
    log_bytes_per_call: float
    opened_s: float | None
    """When every replica that lives had an open breaker; None where none opened on all."""
    back_s: dict[str, float | None]
    """By what was broken: from when it answers itself until every replica that lives has used it. None: not in time."""

    @property
    def n_failed(self) -> int:
        return sum(self.failures.values())

    @property
    def added_p99_ms(self) -> float:
        return self.p99_during_ms - self.p99_before_ms


class Results(msgspec.Struct, frozen=True, kw_only=True):
    made_at: str
    """UTC, ISO 8601."""
    hold_s: float
    """How long each fault lasted."""
    settling_s: float
    reset_timeout_s: float
    """`CIRCUIT_BREAKER_RESET_TIMEOUT`: the default of 60 s would show one probe in the whole fault."""
    n_callers: int
    per_s: float
    """Calls a second in all."""
    n_cores: int
    load_before: float
    """Of the last minute, when the run began: what other work there was, in cores."""
    python: str
    rows: list[Row]


def misses(row: Row, reset_timeout_s: float, *, is_full: bool = True) -> list[str]:
    """The bars that this row does not meet, in words; none is good. Not `is_full`: leaves out p99, of which a fault of
    some seconds says nothing."""
    found: list[str] = []
    if row.n_failed:
        kinds = ", ".join(f"{n} × {kind}" for kind, n in sorted(row.failures.items()))
        found.append(f"{row.n_failed} failed ({kinds})")
    if is_full and row.added_p99_ms >= MAX_ADDED_P99_MS:
        found.append(f"p99 {row.added_p99_ms:+.0f} ms")
    if row.memory_ratio > MAX_MEMORY_RATIO:
        found.append(f"memory × {row.memory_ratio:.2f}")
    if row.log_bytes_per_call > MAX_LOG_BYTES:
        found.append(f"log {row.log_bytes_per_call / 1000:.1f} kB a call")
    for what, back_s in row.back_s.items():
        limit_s = reset_timeout_s + TARGET_BACK_AFTER_RESET_S if what == "first" else MAX_DEPENDENCY_BACK_S
        if back_s is None or back_s > limit_s:
            found.append(f"{what} " + ("not used again" if back_s is None else f"used again after {back_s:.1f} s"))
    return found
