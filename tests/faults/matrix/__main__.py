"""`make faults`: every fault for a minute, half an hour in all; docs/resilience.json and the table made from it.

`make faults ARGS="--hold 10 --only Valkey"` runs some, shorter. What it finds is printed; `--write` keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from faults.matrix.callers import N_CALLERS, PERIOD_S
from faults.matrix.faults import ALL, Fault
from faults.matrix.postgres_server import running_postgres
from faults.matrix.results import FULL_HOLD_S, Results, Row, misses
from faults.matrix.run import one_fault, with_template
from faults.matrix.world import Timing

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "resilience.json"


def timing_of(hold_s: float) -> Timing:
    """A probe of a target that hangs takes a second: one in ten seconds is no hundredth of a replica's calls."""
    return Timing(
        lead_in_s=max(5.0, hold_s / 4),
        hold_s=hold_s,
        settling_s=min(5.0, hold_s / 2),
        reset_timeout_s=10.0 if hold_s >= FULL_HOLD_S / 2 else 3.0,
        give_up_s=25.0,
    )


async def run(faults: Sequence[Fault], timing: Timing) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, running_postgres(Path(name) / "postgres") as postgres:
        cluster = await with_template(postgres)
        for number, fault in enumerate(faults):
            directory = Path(name) / str(number)
            directory.mkdir()
            row = await one_fault(directory, postgres, cluster, fault, timing)
            rows.append(row)
            print(told(row, timing), flush=True)
    return rows


def told(row: Row, timing: Timing) -> str:
    back = ", ".join(f"{what} {'never' if s is None else f'{s:.1f} s'}" for what, s in row.back_s.items())
    missed = misses(row, timing.reset_timeout_s)
    return (
        f"{'FAIL' if missed else 'ok  '} {row.fault}: {row.n_calls} calls ({row.n_cached} cached),"
        f" {row.n_failed} failed {row.failures or ''}, p99 {row.p99_before_ms:.0f} → {row.p99_during_ms:.0f} ms"
        f" (slowest {row.slowest_ms:.0f}), memory × {row.memory_ratio:.2f}, {row.log_bytes_per_call:.0f} B of log"
        f" a call, open after {row.opened_s} s, back: {back}" + "".join(f"\n     {one}" for one in missed)
    )


def main() -> int:
    reading = argparse.ArgumentParser(prog="make faults", description=(__doc__ or "").partition("\n")[0])
    reading.add_argument("--hold", type=float, default=FULL_HOLD_S, help="seconds that each fault lasts")
    reading.add_argument("--only", default="", help="faults whose names contain this")
    reading.add_argument("--write", action="store_true", help="keep the results of a part or a shorter run, too")
    chosen = reading.parse_args()
    faults = [fault for fault in ALL if chosen.only.lower() in fault.name.lower()]
    if not faults:
        reading.error("there is no such fault; there are: " + "; ".join(fault.name for fault in ALL))
    timing, load_before = timing_of(chosen.hold), round(os.getloadavg()[0], 2)
    rows = asyncio.run(run(faults, timing))
    results = Results(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        hold_s=timing.hold_s,
        settling_s=timing.settling_s,
        reset_timeout_s=timing.reset_timeout_s,
        n_callers=N_CALLERS,
        per_s=N_CALLERS / PERIOD_S,
        n_cores=os.cpu_count() or 1,
        load_before=load_before,
        python=platform.python_version(),
        rows=rows,
    )
    if chosen.write or (len(faults) == len(ALL) and timing.hold_s >= FULL_HOLD_S):
        RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return 1 if any(misses(row, timing.reset_timeout_s) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
