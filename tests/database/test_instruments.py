"""What is counted of a real database, its pool and its queue."""

from __future__ import annotations

import math
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.database.engine import Database
from app.jobs.instruments import QueueDepth
from app.jobs.queue import enqueue
from plugins.contract.principal import DEFAULT_TENANT_ID
from unit.plugins.harness import RecordingMeter, RecordingSlowLog

TENANT: UUID = DEFAULT_TENANT_ID
SECRET = "a-value-that-no-log-may-show"


class Observed:
    def __init__(self) -> None:
        self.meter = RecordingMeter()
        self.slow_log = RecordingSlowLog()
        self.database = Database(pool_size=3)
        self.database.observe_with(self.meter, self.slow_log)

    async def sample(self) -> None:
        for source in self.meter.sources:
            await source()


@pytest.mark.requirement("OBS-4")
async def test_statements_are_counted_by_operation_and_result(database_url: str) -> None:
    """Failed ones as errors; each is timed and named without its values, and so is the transaction."""
    observed = Observed()
    await observed.database.open(database_url)
    try:
        before = observed.meter.total.copy()
        observed.slow_log.heard.clear()
        async with observed.database.tenant(TENANT) as session:
            await session.execute(text("select id from files where filename = :name"), {"name": SECRET})
        with pytest.raises(DBAPIError):
            async with observed.database.tenant(TENANT) as session:
                await session.execute(text("delete from no_such_table where a = :a"), {"a": SECRET})
        made = observed.meter.total - before
        assert made["db_queries_total", "select", "ok"] == 3  # two that name the tenant, and ours
        assert made["db_queries_total", "delete", "error"] == 1
        assert made["db_query_duration_ms", "delete"] == 1
        heard = {(kind, name) for kind, name, _ in observed.slow_log.heard}
        assert heard >= {("statement", "select files"), ("statement", "delete no_such_table")}
        assert ("transaction", "transaction") in heard
        assert SECRET not in str(observed.slow_log.heard)
    finally:
        await observed.database.close()


@pytest.mark.requirement("OBS-4")
async def test_the_pool_shows_what_is_in_use_idle_and_possible(database_url: str) -> None:
    """Sampled when somebody reads the metrics."""
    observed = Observed()
    await observed.database.open(database_url)
    try:
        async with observed.database.tenant(TENANT):
            await observed.sample()
            assert observed.meter.held["db_pool_connections", "in_use"] == 1
        await observed.sample()
        assert observed.meter.held["db_pool_connections", "in_use"] == 0
        assert observed.meter.held["db_pool_connections", "idle"] >= 1
        assert observed.meter.held["db_pool_max_connections",] == 6
        assert observed.meter.held["db_pool_waiting",] == 0
    finally:
        await observed.database.close()


@pytest.mark.requirement("OBS-4")
async def test_the_queues_depth_is_counted_by_state(database_url: str) -> None:
    """Of all tenants together; unknown, not zero, while the database is away."""
    observed = Observed()
    QueueDepth(observed.database, observed.meter)
    await observed.database.open(database_url)
    try:
        await observed.sample()
        assert observed.meter.held["job_queue_depth", "waiting"] == 0
        async with observed.database.tenant(TENANT) as session:
            await enqueue(session, "task", [{"tenant_id": str(TENANT)}] * 3)
        await observed.sample()
        depths = {
            state: n
            for (name, *state), n in observed.meter.held.items()
            if name == "job_queue_depth"
            for state in state
        }
        assert depths == {"waiting": 3, "delayed": 0, "running": 0, "failed": 0}
    finally:
        await observed.database.close()
    with pytest.raises(Exception, match="not open"):
        await observed.sample()
    assert math.isnan(observed.meter.held["job_queue_depth", "waiting"])
