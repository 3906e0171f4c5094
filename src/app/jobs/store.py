"""All SQL on the queue's own tables. procrastinate can list the jobs of dead workers and retry them one by one; between
the two steps another worker may have taken them. Here it is one statement each, safe with any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from procrastinate import App
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs.queue import QUEUE

_GIVE_BACK = """
update procrastinate_jobs as job
set status = 'todo', attempts = attempts + 1, scheduled_at = now(), worker_id = null
where job.queue_name = %(queue)s and job.status = 'doing' and (
    (job.worker_id = %(worker_id)s and job.id = any(%(ended)s::bigint[]))
    or not exists (
        select from procrastinate_workers as worker
        where worker.id = job.worker_id and worker.last_heartbeat > now() - make_interval(secs => %(stalled_after_s)s)
    )
)
returning job.id
"""

_COUNT = text(
    """
    select case when status = 'doing' then 'running'
                when status in ('failed', 'aborted') then 'failed'
                when scheduled_at > now() then 'delayed'
                else 'waiting' end as state,
           count(*) as n_jobs
    from jobs.procrastinate_jobs
    where queue_name = :queue and status in ('todo', 'doing', 'failed', 'aborted')
    group by state
    """
)

_STATE = text(
    """
    with live as (
        select id from jobs.procrastinate_workers where last_heartbeat > now() - make_interval(secs => :stalled_after_s)
    )
    select (select count(*) from live) as n_live_workers,
           (select count(*) from jobs.procrastinate_jobs
            where queue_name = :queue and status = 'doing'
              and (worker_id is null or worker_id not in (select id from live))) as n_stalled,
           -- The oldest alone: jobs are taken in this order, and it has an index.
           coalesce((select extract(epoch from now() - coalesce(job.scheduled_at, deferred.at))
                     from (select id, scheduled_at from jobs.procrastinate_jobs
                           where queue_name = :queue and status = 'todo' and coalesce(scheduled_at, now()) <= now()
                           order by priority desc, id limit 1) as job
                     left join jobs.procrastinate_events as deferred
                       on deferred.job_id = job.id and deferred.type = 'deferred'
                     limit 1), 0)::float8 as longest_wait_s
    """
)

_RETRY_FAILED = """
update procrastinate_jobs
set status = 'todo', attempts = 0, scheduled_at = now(), worker_id = null
where queue_name = %(queue)s and status in ('failed', 'aborted') and task_name = any(%(tasks)s::text[])
returning id
"""


async def give_back(app: App, worker_id: int | None, ended: Sequence[int], *, stalled_after_s: float) -> list[int]:
    """Free the jobs of workers without a heartbeat, and those of `worker_id` that `ended` although the queue does not
    know. Returns: their numbers.
    """
    rows = await app.connector.execute_query_all_async(
        _GIVE_BACK, queue=QUEUE, worker_id=worker_id, ended=list(ended), stalled_after_s=stalled_after_s
    )
    return [row["id"] for row in rows]


async def retry_failed(app: App, tasks: Sequence[str]) -> list[int]:
    """Free the jobs of these tasks that ended badly. Returns: their numbers."""
    rows = await app.connector.execute_query_all_async(_RETRY_FAILED, queue=QUEUE, tasks=list(tasks))
    return [row["id"] for row in rows]


async def count(session: AsyncSession) -> dict[str, int]:
    """Jobs by state: waiting, delayed (to be tried again later), running, failed. Those that are done are deleted."""
    rows = await session.execute(_COUNT, {"queue": QUEUE})
    return {row.state: row.n_jobs for row in rows}


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """How the queue of all processes is doing."""

    n_live_workers: int
    n_stalled: int
    """Jobs whose worker has no heartbeat: nobody works on them."""
    longest_wait_s: float
    """How long the next job might have begun already."""


async def state(session: AsyncSession, *, stalled_after_s: float) -> QueueState:
    """A worker without a heartbeat within that time is dead."""
    row = (await session.execute(_STATE, {"queue": QUEUE, "stalled_after_s": stalled_after_s})).one()
    return QueueState(n_live_workers=row.n_live_workers, n_stalled=row.n_stalled, longest_wait_s=row.longest_wait_s)
