"""Finds jobs that nobody works on any more, and gives them back to the queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from procrastinate import App, JobContext, exceptions
from procrastinate.worker import Worker as QueueWorker

from app.jobs import store

logger = logging.getLogger("jobs")

HEARTBEAT_S = 2.0
STALLED_AFTER_S = 6.0
"""Three heartbeats missed: dead, or as good as dead. A killed worker's job goes on within 8 s of the kill, while a
database that restarts (1–2 s) disturbs nobody. Taking a job from a worker that lives after all costs double work, no
harm: handlers are idempotent."""


class Rescue:
    """One a worker, for all its connections. `tasks`: those that it can do."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        self._ended: dict[int, float] = {}
        """Jobs whose handler returned → when. They stay a moment: the queue should know by then."""
        self._looked_back = False

    async def watch(self, call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: QueueWorker) -> Any:
        """A middleware of the worker: keeps book of what this process works on."""
        assert context.job.id is not None
        self._ended.pop(context.job.id, None)
        try:
            return await call_next()
        finally:
            self._ended[context.job.id] = time.monotonic()

    async def run(self, app: App, worker: QueueWorker) -> None:
        """Look at once, and then at each heartbeat."""
        while True:
            try:
                await self._look(app, worker)
            except exceptions.ConnectorException as lost:
                # The worker's own heartbeat meets the same, and decides.
                logger.debug("could not look for lost jobs: %s", type(lost).__name__)
            await asyncio.sleep(HEARTBEAT_S)

    async def _look(self, app: App, worker: QueueWorker) -> None:
        if not self._looked_back:
            # Once a start: what failed by a mistake of ours may work with this release.
            for job_id in await store.retry_failed(app, self._tasks):
                logger.warning("job %s failed earlier: it is tried again", job_id)
            self._looked_back = True
        due = time.monotonic() - STALLED_AFTER_S
        overdue = [job_id for job_id, at in self._ended.items() if at < due]
        for job_id in await store.give_back(app, worker.worker_id, overdue, stalled_after_s=STALLED_AFTER_S):
            logger.warning("job %s was left by its worker: it goes on", job_id)
        for job_id in overdue:
            self._ended.pop(job_id, None)
