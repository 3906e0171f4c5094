"""The worker: takes jobs from PostgreSQL, within the server's process or in one of its own; several at once are fine.

A job is done at least once: a worker that is killed leaves its job marked as taken; when its heartbeat stops, the job
is given to another. Handlers are therefore idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision, exceptions
from procrastinate.jobs import Job

from app.database.engine import async_url
from app.jobs.queue import QUEUE
from plugins.contract.errors import RetryableError

logger = logging.getLogger("jobs")

Handler = Callable[[Mapping[str, str]], Awaitable[None]]
"""Takes a job's arguments. Raises: RetryableError to be called again later; anything else ends the job."""

CONCURRENCY = 2
"""One job parses while another embeds; the embedder itself is one."""

HEARTBEAT_S = 3.0
STALLED_AFTER_S = 10.0
"""Three heartbeats missed: the worker is dead, or as good as dead. A killed worker's job goes on within 15 s."""

POLLING_S = 2.0
"""New jobs are announced (LISTEN); this is for announcements lost with a connection."""

MAX_RETRY_S = 60
RESTART_PAUSE_S = 2.0
"""Between losing PostgreSQL and trying again."""


class Backoff(BaseRetryStrategy):
    """1, 2, 4 … 60 s, for as long as the reason passes: an embedder that is away must not fail a document."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if not isinstance(exception, RetryableError):
            return None
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts, 10), MAX_RETRY_S)})


class Worker:
    """`handlers`: task name → what does it."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self, url: str) -> None:
        """Returns at once; connecting happens in the background, and again whenever the connection is lost."""
        self._task = asyncio.create_task(self._work(url), name="job worker")

    async def stop(self, grace_s: float) -> None:
        """Let running jobs end for `grace_s`; those that do not are given up, and go on elsewhere or later."""
        if self._task is None:
            return
        self._stopping.set()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(grace_s + 1):
                await self._task
        self._task = None

    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _work(self, url: str) -> None:
        while not self._stopping.is_set():
            app = self._app(url)
            try:
                async with app.open_async(), asyncio.TaskGroup() as group:
                    rescue = group.create_task(self._rescue(app))
                    await app.run_worker_async(
                        queues=[QUEUE],
                        concurrency=CONCURRENCY,
                        fetch_job_polling_interval=POLLING_S,
                        update_heartbeat_interval=HEARTBEAT_S,
                        stalled_worker_timeout=STALLED_AFTER_S,
                        shutdown_graceful_timeout=1.0,
                        install_signal_handlers=False,
                        delete_jobs="successful",
                    )
                    rescue.cancel()
            except* (exceptions.ConnectorException, OSError) as lost:
                logger.warning("the job queue is not available (%s): trying again", type(lost.exceptions[0]).__name__)
                await asyncio.sleep(RESTART_PAUSE_S)

    async def _rescue(self, app: App) -> None:
        """Give dead workers' jobs to the living."""
        while True:
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER_S):
                logger.warning("job %s was left by a dead worker: it goes on", job.id)
                await app.job_manager.retry_job(job, retry_at=datetime.now(UTC))
            await asyncio.sleep(HEARTBEAT_S)

    def _app(self, url: str) -> App:
        plain = async_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        connector = PsycopgConnector(
            conninfo=plain,
            min_size=1,
            max_size=4,
            timeout=5,
            kwargs={"options": "-c search_path=jobs -c role=wattos_jobs", "application_name": "wattos-worker"},
        )
        app = App(connector=connector)
        for name, handler in self._handlers.items():
            app.task(name=name, queue=QUEUE, retry=Backoff())(_called(handler))
        return app


def _called(handler: Handler) -> Callable[..., Awaitable[None]]:
    async def task(**args: str) -> None:
        await handler(args)

    return task
