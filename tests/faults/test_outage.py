"""The database goes away under load: known keys keep working, and afterwards the ledger has every call once."""

from __future__ import annotations

from pathlib import Path

from outage import require_nothing_lost, ride_out
from postgres import Cluster


def test_an_outage_of_the_database_loses_no_call(cluster: Cluster, tmp_path: Path) -> None:
    """Unknown keys are refused; the process is alive and ready, and says that it is degraded."""
    require_nothing_lost(ride_out(cluster, tmp_path, outage_s=6))
