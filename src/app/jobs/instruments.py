"""What is said of jobs: whose a log line is, which took long, how many wait."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from procrastinate import JobContext
from procrastinate.worker import Worker as QueueWorker

from app.database.engine import Database, Role
from app.jobs import store
from plugins.contract.ports import Meter, SlowLog
from plugins.contract.work import Work, begin, for_tenant

STATES = ("waiting", "delayed", "running", "failed")
UNKNOWN = float("nan")
"""What is shown while the database cannot be asked: the number before would look like a fact."""


class JobWatch:
    """A middleware of the worker."""

    def __init__(self, slow_log: SlowLog) -> None:
        self._slow_log = slow_log

    async def watch(self, call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: QueueWorker) -> Any:
        # The worker has a task for each job, in which it also decides about retries: all of that is this job's.
        begin(Work({"jobId": str(context.job.id)}))
        with contextlib.suppress(KeyError, ValueError):
            for_tenant(UUID(str(context.job.task_kwargs["tenant_id"])))
        began_s = time.monotonic()
        try:
            return await call_next()
        finally:
            self._slow_log.took("job", context.job.task_name, (time.monotonic() - began_s) * 1000)


class QueueDepth:
    """Asked when metrics are read: one aggregate over the jobs that are not done, as those that are get deleted."""

    def __init__(self, database: Database, meter: Meter) -> None:
        self._database = database
        self._depth = meter.gauge(
            "job_queue_depth",
            "Jobs by state: waiting (may begin now), delayed (to be tried again later), running, failed. NaN while the"
            " database does not answer.",
            ("state",),
        )
        meter.sample(self._sample)

    async def _sample(self) -> None:
        depth: dict[str, float] = dict.fromkeys(STATES, UNKNOWN)
        try:
            async with self._database.role(Role.JOBS) as session:
                counted = await store.count(session)
            depth = {state: counted.get(state, 0) for state in STATES}
        finally:
            for state, n_jobs in depth.items():
                self._depth.set(n_jobs, state)
