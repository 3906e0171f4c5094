"""The worker: takes jobs from PostgreSQL, within the server's process or in one of its own; several at once are fine.

A job is done at least once: one that is interrupted goes back to the queue, by the worker itself when it is told to
stop, by another when it was killed. Handlers are therefore idempotent. See docs/decisions/0001-job-queue.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import psycopg
from procrastinate import App, PsycopgConnector, exceptions
from procrastinate.worker import Worker as QueueWorker
from psycopg_pool import AsyncConnectionPool

from app.database.engine import CONNECT_TIMEOUT_S, async_url
from app.jobs.instruments import JobWatch
from app.jobs.queue import QUEUE
from app.jobs.rescue import HEARTBEAT_S, STALLED_AFTER_S, Rescue
from app.jobs.retry import Backoff
from plugins.contract.nulls import NullSlowLog
from plugins.contract.ports import SlowLog

logger = logging.getLogger("jobs")

Handler = Callable[[Mapping[str, str]], Awaitable[None]]
"""Takes a job's arguments. Raises: RetryableError to be called again later; anything else ends the job."""

CONCURRENCY = 2
"""One job parses while another embeds; the embedder itself is one."""

POLLING_S = 2.0
"""New jobs are announced (LISTEN); this is for announcements lost with a connection, and for retries that are due."""

JOB_GRACE_S = 1.0
"""A running job's time to end when the worker is told to stop. What it did is kept, so there is little to wait for."""

RESTART_PAUSE_S = 1.0
"""Between losing PostgreSQL and trying again."""

QUERY_TIMEOUT_S = 5.0
"""For a free connection: none within this time means that the server is away."""

QUIET = {
    # Every step of every job at info, with stack traces of what is only tried again.
    "procrastinate": logging.WARNING,
    # A lost connection as two errors with stack traces; a job that failed is reported by another logger.
    "procrastinate.worker.worker": logging.CRITICAL,
    "procrastinate.utils": logging.CRITICAL,
}

CONNECTION_OPTIONS = "-c search_path=jobs -c role=wattos_jobs -c statement_timeout=30s"


class Worker:
    """`handlers`: task name → what does it."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._watch = JobWatch(NullSlowLog())

    def observe_with(self, slow_log: SlowLog) -> None:
        """The worker is made before the log of slow operations is known."""
        self._watch = JobWatch(slow_log)

    def start(self, url: str) -> None:
        """Returns at once; connecting happens in the background, and again whenever the connection is lost."""
        for name, level in QUIET.items():
            logging.getLogger(name).setLevel(level)
        self._stopping = False
        self._task = asyncio.create_task(self._work(url), name="job worker")

    async def stop(self, grace_s: float) -> None:
        """Running jobs have JOB_GRACE_S to end; the others are given back to the queue, at once. Returns within
        `grace_s`: after that what is left is found by its missing heartbeat.
        """
        task, self._task = self._task, None
        if task is None:
            return
        # A cancellation may surface as the lost connection that it met on its way out.
        self._stopping = True
        task.cancel()
        await asyncio.wait([task], timeout=grace_s)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=QUERY_TIMEOUT_S)

    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _work(self, url: str) -> None:
        rescue = Rescue(tasks=list(self._handlers))
        while not self._stopping:
            try:
                await self._work_while_connected(url, rescue)
            except* (exceptions.ConnectorException, psycopg.Error, OSError) as lost:
                logger.warning("the job queue is not available (%s): trying again", type(lost.exceptions[0]).__name__)
            except* Exception:  # a bug of ours or theirs must not end the work for ever
                logger.exception("the job worker failed: starting again")
            if not self._stopping:
                await asyncio.sleep(RESTART_PAUSE_S)

    async def _work_while_connected(self, url: str, rescue: Rescue) -> None:
        async with _pool(url) as pool:
            app = self._app()
            async with app.open_async(pool), asyncio.TaskGroup() as group:
                worker = _SupervisedWorker(
                    app,
                    queues=[QUEUE],
                    concurrency=CONCURRENCY,
                    fetch_job_polling_interval=POLLING_S,
                    update_heartbeat_interval=HEARTBEAT_S,
                    stalled_worker_timeout=STALLED_AFTER_S,
                    shutdown_graceful_timeout=JOB_GRACE_S,
                    install_signal_handlers=False,
                    delete_jobs="successful",
                    worker_middleware=[self._watch.watch, rescue.watch],
                )
                rescuing = group.create_task(rescue.run(app, worker), name="job rescue")
                await worker.run()  # type: ignore[no-untyped-call]  # procrastinate's gap
                rescuing.cancel()
            logger.warning("the job queue's connection was lost: trying again")

    def _app(self) -> App:
        app = App(connector=PsycopgConnector())
        for name, handler in self._handlers.items():
            app.task(name=name, queue=QUEUE, retry=Backoff())(_called(handler))
        return app


class _SupervisedWorker(QueueWorker):
    """procrastinate watches its heartbeat and its listener only until the first of its side tasks ends, which the one
    for periodic jobs does at once when there are none: a worker that lost both works on, dead to all others
    (https://github.com/procrastinate-org/procrastinate/issues/1597, open in 3.10). So here it never ends.
    """

    async def _periodic_deferrer(self) -> None:
        await asyncio.Event().wait()


def _pool(url: str) -> AsyncConnectionPool:
    """Three connections at most, beside the listener's: fetch, finish, heartbeat."""
    return AsyncConnectionPool(
        async_url(url).set(drivername="postgresql").render_as_string(hide_password=False),
        min_size=1,
        max_size=3,
        timeout=QUERY_TIMEOUT_S,
        check=AsyncConnectionPool.check_connection,
        kwargs={
            "options": CONNECTION_OPTIONS,
            "application_name": "wattos-worker",
            "connect_timeout": CONNECT_TIMEOUT_S,
        },
        open=False,
    )


def _called(handler: Handler) -> Callable[..., Awaitable[None]]:
    async def task(**args: str) -> None:
        await handler(args)

    return task
