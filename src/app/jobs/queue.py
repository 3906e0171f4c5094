"""Enqueueing, in the same transaction as the rows a job is about: either both are there or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

QUEUE = "wattos"

_ENQUEUE = text(
    """
    select enqueue_job(:queue, :task, args, null, cast(:lock_on as text) || ':' || (args ->> :lock_on))
    from jsonb_array_elements(cast(:jobs as jsonb)) as args
    """
)


async def enqueue(
    session: AsyncSession, task: str, jobs: Sequence[Mapping[str, str]], *, lock_on: str | None = None
) -> None:
    """One job for each item of `jobs`, its arguments; in one statement. `lock_on` names an argument: jobs that have
    the same value there run one after the other.

    Each job's `tenant_id` must be the transaction's tenant: the database refuses anything else.
    """
    values = {"queue": QUEUE, "task": task, "jobs": msgspec.json.encode(jobs).decode(), "lock_on": lock_on}
    await session.execute(_ENQUEUE, values)
