"""What is said of the job queue, on a real one: is anybody working, and does anything wait that should not?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psycopg
import pytest

from app.checks import DependencyAway, checks_of_worker
from app.database.engine import Database
from app.ids import new_id
from app.jobs.queue import enqueue
from app.runtime import Runtime
from app.settings import read_settings

pytestmark = pytest.mark.requirement("OBS-6")


class Queue:
    """A database's queue, written to as its owner, and the check of a process on it."""

    def __init__(self, owner: psycopg.AsyncConnection, database: Database, data_dir: Path) -> None:
        env = {"ADMIN_KEY": "k" * 32, "DATA_DIR": str(data_dir), "MAX_JOB_WAIT_S": "60"}
        runtime = Runtime(read_settings(env), env)
        runtime.database = database
        (self._check,) = [check for check in checks_of_worker(runtime) if check.name == "job queue"]
        self._owner, self._database = owner, database

    async def said(self) -> str:
        """Empty when it is well."""
        try:
            await self._check.probe()
        except DependencyAway as away:
            return away.message
        return ""

    async def put(self) -> None:
        tenant_id = new_id()
        async with self._database.tenant(tenant_id) as session:
            await enqueue(session, "work", [{"tenant_id": str(tenant_id)}])

    async def sql(self, statement: str, values: Sequence[object] = ()) -> None:
        await self._owner.execute(statement.encode(), values)

    async def worker(self, heartbeat_age_s: float) -> None:
        await self.sql(
            "insert into procrastinate_workers (last_heartbeat) values (now() - make_interval(secs => %s))",
            [heartbeat_age_s],
        )

    async def take(self, heartbeat_age_s: float) -> None:
        """The waiting job is a worker's, whose last heartbeat is so old."""
        await self.sql(
            """with taker as (select id from procrastinate_workers
                              where abs(extract(epoch from now() - last_heartbeat) - %s) < 1)
               update procrastinate_jobs set status = 'doing', worker_id = (select id from taker)""",
            [heartbeat_age_s],
        )


@pytest.fixture
async def queue(database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Queue]:
    options = "-c search_path=jobs,public"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=options) as owner:
        yield Queue(owner, database, tmp_path)


async def test_a_queue_without_a_live_worker_is_not_well(queue: Queue) -> None:
    """None at all, or one whose heartbeat stopped."""
    assert (await queue.said()).startswith("no worker is alive")
    await queue.worker(heartbeat_age_s=10)
    assert (await queue.said()).startswith("no worker is alive")
    await queue.worker(heartbeat_age_s=0)
    assert await queue.said() == ""


async def test_a_job_that_waits_too_long_is_told(queue: Queue) -> None:
    """Longer than MAX_JOB_WAIT_S, from when it might have begun; one that is to be tried later does not wait yet."""
    await queue.worker(heartbeat_age_s=0)
    await queue.put()
    assert await queue.said() == ""
    await queue.sql("update procrastinate_events set at = now() - interval '90 s'")
    assert await queue.said() == "a job has been waiting for 90 s"
    await queue.sql("update procrastinate_jobs set scheduled_at = now() + interval '1 h'")
    assert await queue.said() == ""
    await queue.sql("update procrastinate_jobs set scheduled_at = now() - interval '70 s'")
    assert await queue.said() == "a job has been waiting for 70 s"


async def test_a_job_whose_worker_is_dead_is_told(queue: Queue) -> None:
    """A live worker takes it over within seconds: where that does not happen, something is wrong."""
    await queue.worker(heartbeat_age_s=0)
    await queue.worker(heartbeat_age_s=30)
    await queue.put()
    await queue.take(heartbeat_age_s=0)
    assert await queue.said() == ""
    await queue.take(heartbeat_age_s=30)
    assert (await queue.said()).startswith("jobs were left")
