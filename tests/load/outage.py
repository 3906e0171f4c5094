"""A minute without the database, two replicas under load: `python tests/load/outage.py [SECONDS]`.

What must hold is `require_nothing_lost`; what was seen is printed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from outage import Seen, require_nothing_lost, ride_out
from postgres import running_cluster


async def main(outage_s: float) -> Seen:
    with tempfile.TemporaryDirectory() as name:
        async with running_cluster() as cluster:
            return await asyncio.to_thread(ride_out, cluster, Path(name), outage_s)


if __name__ == "__main__":
    seen = asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60))
    print(f"calls with known keys, by status: {dict(seen.statuses)}, the slowest {seen.slowest_ms:.0f} ms")
    print(f"unknown keys {seen.unknown_key}, liveness {seen.liveness}, readiness {seen.readiness}, {seen.health}")
    outcomes = {outcome: sum(row["outcome"] == outcome for row in seen.rows) for outcome in ("ok", "lost")}
    print(f"vendor answered {seen.n_answered} calls; the ledger afterwards: {outcomes}")
    require_nothing_lost(seen)
