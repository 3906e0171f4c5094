"""The short form of `make faults`: three pairs of faults, seconds each, on the same two replicas in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from faults.matrix.faults import ALL
from faults.matrix.postgres_server import PostgresServer, running_postgres
from faults.matrix.results import Results, Row, misses
from faults.matrix.run import ridden_out, with_template
from faults.matrix.world import Timing, running_world

SHORT = Timing(lead_in_s=2.0, hold_s=5.0, settling_s=2.0, reset_timeout_s=3.0, give_up_s=20.0)
CHOSEN = (
    "Postgres killed + Valkey killed",
    "Valkey frozen + first target hanging",
    "Postgres frozen + first target 500",
)
"""All dependencies and both ways of failing, in the time of three."""

SLOWEST_MS = 6_000.0
"""Two time-outs of a target and whatever a busy machine adds: nobody waited for a dependency until it gave up."""


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    with running_postgres(tmp_path / "postgres") as server:
        yield server


def test_faults_in_pairs_fail_no_call_and_what_is_back_is_used_again(postgres: PostgresServer, tmp_path: Path) -> None:
    """Fifty callers on two replicas; memory and log stay within their bars, too."""

    async def run() -> list[Row]:
        cluster = await with_template(postgres)
        url = await cluster.create_database()
        async with running_world(tmp_path, postgres, url, SHORT, through_proxy=False) as world:
            return [await ridden_out(world, fault, SHORT) for fault in ALL if fault.name in CHOSEN]

    rows = asyncio.run(run())
    assert {row.fault for row in rows} == set(CHOSEN)
    for row in rows:
        assert row.n_calls > 100, row
        assert row.n_cached > 0, row
        assert misses(row, SHORT.reset_timeout_s, is_full=False) == [], row
        assert row.slowest_ms < SLOWEST_MS, row


def test_the_table_shows_a_bar_that_was_missed() -> None:
    """Each by its name; a row that meets all is no other row's excuse."""
    good = Row(
        fault="Valkey killed",
        n_calls=3000,
        n_cached=100,
        failures={},
        n_cut=0,
        p99_before_ms=10.0,
        p99_during_ms=20.0,
        slowest_ms=30.0,
        memory_ratio=1.0,
        log_bytes_per_call=600.0,
        opened_s=None,
        back_s={"valkey": 1.0, "first": 15.0},
    )
    assert misses(good, 10.0) == []
    bad = msgspec.structs.replace(
        good,
        failures={"503 ?": 2},
        p99_during_ms=260.0,
        memory_ratio=1.6,
        log_bytes_per_call=10_001.0,
        back_s={"valkey": 10.1, "postgres": None, "first": 15.1},
    )
    assert misses(bad, 10.0) == [
        "2 failed (2 × 503 ?)",
        "p99 +250 ms",
        "memory × 1.60",
        "log 10.0 kB a call",
        "valkey used again after 10.1 s",
        "postgres not used again",
        "first used again after 15.1 s",
    ]
    results = Path(__file__).resolve().parents[2] / "docs" / "resilience.json"
    kept = msgspec.json.decode(results.read_bytes(), type=Results)
    assert [row.fault for row in kept.rows] == [fault.name for fault in ALL]
