"""The worker on a real queue: what it does with jobs that succeed, fail, are interrupted, or were left by the dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import psycopg
import pytest

from app.database.engine import Database
from app.ids import new_id
from app.jobs.queue import enqueue
from app.jobs.worker import CONCURRENCY, Handler, Worker
from plugins.contract.errors import RetryableError, WattosError
from unit.app.knowledge.stores.support import eventually

GRACE_S = 5.0


class Queue:
    """A database's queue, and the workers that a test starts on it."""

    def __init__(self, database: Database, url: str) -> None:
        self.tenant_id: UUID = new_id()
        self._database = database
        self._url = url
        self._workers: list[Worker] = []

    async def put(self, *numbers: str, lock_on: str | None = None, **fields: str) -> None:
        jobs = [{"tenant_id": str(self.tenant_id), "number": number, **fields} for number in numbers]
        async with self._database.tenant(self.tenant_id) as session:
            await enqueue(session, "work", jobs, lock_on=lock_on)

    def start(self, handler: Handler) -> Worker:
        worker = Worker({"work": handler})
        worker.start(self._url)
        self._workers.append(worker)
        return worker

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop(GRACE_S) for worker in self._workers))

    async def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """As the database's owner."""
        async with await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, options="-c search_path=jobs,public"
        ) as connection:
            cursor = await connection.execute(statement.encode(), values or None)
            return await cursor.fetchall() if cursor.description else []

    async def states(self) -> list[str]:
        rows = await self.sql("select status::text from procrastinate_jobs order by id")
        return [str(status) for (status,) in rows]

    async def is_empty(self) -> bool:
        return await self.states() == []


@pytest.fixture
async def queue(database: Database, database_url: str) -> AsyncIterator[Queue]:
    opened = Queue(database, database_url)
    yield opened
    await opened.stop()


class Recorder:
    """A handler that notes which jobs it did."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def __call__(self, args: Mapping[str, str]) -> None:
        self.done.append(args["number"])


async def test_job_is_there_with_its_transaction_or_not_at_all(queue: Queue, database: Database) -> None:
    """Rolled back with the rows it is about."""
    async with database.tenant(queue.tenant_id) as session:
        await enqueue(session, "work", [{"tenant_id": str(queue.tenant_id), "number": "1"}])
        await session.rollback()
    assert await queue.is_empty()
    await queue.put("2")
    assert await queue.states() == ["todo"]


async def test_jobs_are_done_and_leave_nothing(queue: Queue) -> None:
    """Those that waited before the worker started, and those that come later, announced: without waiting for a poll."""
    recorder = Recorder()
    await queue.put("1", "2")
    queue.start(recorder)
    await eventually(queue.is_empty, "waiting jobs are done")
    started = time.monotonic()
    await queue.put("3")
    await eventually(queue.is_empty, "the new job is done")
    assert time.monotonic() - started < 1.0
    assert sorted(recorder.done) == ["1", "2", "3"]


async def test_jobs_with_one_lock_run_one_after_the_other(queue: Queue) -> None:
    """`lock_on`: never two at once with the same value; others run beside them."""
    running: list[str] = []
    together: set[frozenset[str]] = set()

    async def handler(args: Mapping[str, str]) -> None:
        running.append(args["file"])
        together.add(frozenset(running))
        assert len(set(running)) == len(running)
        await asyncio.sleep(0)
        running.remove(args["file"])

    for file in ("a", "b"):
        await queue.put("1", "2", "3", lock_on="file", file=file)
    queue.start(handler)
    await eventually(queue.is_empty, "all are done")


async def test_concurrency_is_bounded(queue: Queue) -> None:
    """Never more than CONCURRENCY jobs at once in one worker."""
    n_running, seen = 0, 0
    full = asyncio.Event()

    async def handler(_args: Mapping[str, str]) -> None:
        nonlocal n_running, seen
        n_running += 1
        seen = max(seen, n_running)
        if n_running == CONCURRENCY:
            full.set()
        async with asyncio.timeout(GRACE_S):
            await full.wait()
        n_running -= 1

    await queue.put(*map(str, range(5)))
    queue.start(handler)
    await eventually(queue.is_empty, "all are done")
    assert seen == CONCURRENCY


async def test_retryable_failure_is_tried_again_until_it_passes(queue: Queue) -> None:
    """An embedder that is away does not end a job."""
    attempts = 0

    async def handler(_args: Mapping[str, str]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 2:
            raise RetryableError("away")

    await queue.put("1")
    queue.start(handler)
    await eventually(queue.is_empty, "it is done in the end")
    assert attempts == 2


async def test_other_failure_ends_the_job_until_the_next_start(queue: Queue) -> None:
    """No retry for what fails the same way; a new start, perhaps of a mended release, tries once more."""
    attempts = 0

    async def handler(_args: Mapping[str, str]) -> None:
        nonlocal attempts
        attempts += 1
        raise WattosError("a bug")

    async def failed() -> bool:
        return await queue.states() == ["failed"]

    await queue.put("1")
    worker = queue.start(handler)
    await eventually(failed, "it failed")
    assert attempts == 1
    await worker.stop(GRACE_S)
    recorder = Recorder()
    queue.start(recorder)
    await eventually(queue.is_empty, "it is done by the next release")
    assert recorder.done == ["1"]


async def test_stopped_worker_gives_its_job_back_at_once(queue: Queue) -> None:
    """SIGTERM in mid-job: the job is free when the worker is gone, and another goes on without waiting."""
    begun = asyncio.Event()

    async def endless(_args: Mapping[str, str]) -> None:
        begun.set()
        await asyncio.Event().wait()

    await queue.put("1")
    worker = queue.start(endless)
    async with asyncio.timeout(GRACE_S):
        await begun.wait()
    await worker.stop(GRACE_S)
    assert not worker.is_running()
    assert await queue.states() == ["todo"]
    recorder = Recorder()
    queue.start(recorder)
    await eventually(queue.is_empty, "another worker did it", within_s=3)
    assert recorder.done == ["1"]


async def test_job_of_a_dead_worker_is_done_once_by_the_living(queue: Queue) -> None:
    """Taken by a worker whose heartbeat stopped, or that is not even listed: one of two living workers does it."""
    await queue.put("1", "2")
    (dead,) = (
        await queue.sql(
            "insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 min') returning id"
        )
    )[0]
    await queue.sql("update procrastinate_jobs set status = 'doing'")
    await queue.sql(
        "update procrastinate_jobs set worker_id = %s where args->>'number' = '1'",
        [dead],
    )
    recorder = Recorder()
    queue.start(recorder)
    queue.start(recorder)
    await eventually(queue.is_empty, "both are done")
    assert sorted(recorder.done) == ["1", "2"]


async def test_connections_lost_in_mid_job_are_made_again(queue: Queue) -> None:
    """PostgreSQL throws all the worker's connections out: it comes back, and neither old nor new jobs are lost."""
    recorder = Recorder()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(args: Mapping[str, str]) -> None:
        begun.set()
        async with asyncio.timeout(GRACE_S * 2):
            await go_on.wait()
        await recorder(args)

    await queue.put("1")
    worker = queue.start(handler)
    async with asyncio.timeout(GRACE_S):
        await begun.wait()
    cut = await queue.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'wattos-worker' and datname = current_database()"
    )
    assert cut
    go_on.set()
    await queue.put("2")
    await eventually(queue.is_empty, "both are done")
    assert set(recorder.done) == {"1", "2"}
    assert worker.is_running()


async def test_ending_that_the_queue_did_not_hear_of_is_told_again(queue: Queue) -> None:
    """The handler returned while the queue could not be written: the job is not held for ever by a living worker."""
    recorder = Recorder()
    await queue.sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;"
        "create trigger refuse before delete on procrastinate_jobs for each row execute function refuse()"
    )
    await queue.put("1")
    queue.start(recorder)

    async def is_done() -> bool:
        return recorder.done == ["1"]

    await eventually(is_done, "it is done")
    await queue.sql("drop trigger refuse on procrastinate_jobs")
    await eventually(queue.is_empty, "and ended")
    assert recorder.done == ["1", "1"]


async def test_worker_waits_for_a_database_that_is_not_there(queue: Queue, database_url: str) -> None:
    """Starting without PostgreSQL neither raises nor gives up; stopping then is quick."""
    worker = Worker({"work": Recorder()})
    worker.start(database_url.replace("test_", "absent_"))
    await asyncio.sleep(0)
    assert worker.is_running()
    started = time.monotonic()
    await worker.stop(GRACE_S)
    assert time.monotonic() - started < GRACE_S
    assert not worker.is_running()


async def test_worker_whose_heartbeat_failed_is_replaced(queue: Queue) -> None:
    """A worker without a heartbeat would be dead to all others for ever, and its jobs taken from it again and again."""

    async def workers() -> set[object]:
        return {row for (row,) in await queue.sql("select id from procrastinate_workers")}

    async def is_registered() -> bool:
        return len(await workers()) == 1

    async def is_replaced() -> bool:
        return bool(await workers() - first)

    recorder = Recorder()
    queue.start(recorder)
    await eventually(is_registered, "it is there")
    first = await workers()
    await queue.sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;"
        "create trigger refuse before update on procrastinate_workers for each row execute function refuse()"
    )
    await eventually(is_replaced, "another is there")
    await queue.sql("drop trigger refuse on procrastinate_workers")
    await queue.put("1")
    await eventually(queue.is_empty, "it works")
