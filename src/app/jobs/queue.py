"""Enqueueing, in the same transaction as the rows a job is about: either both are there or neither."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

QUEUE = "wattos"

_ENQUEUE = text("select enqueue_job(:queue, :task, cast(:args as jsonb), null, :lock)")


async def enqueue(session: AsyncSession, task: str, args: Mapping[str, str], *, lock: str | None = None) -> int:
    """Returns: the job's number. Jobs with the same `lock` run one after the other.

    `args["tenant_id"]` must be the transaction's tenant: the database refuses anything else.
    """
    values = {"queue": QUEUE, "task": task, "args": msgspec.json.encode(args).decode(), "lock": lock}
    return int((await session.execute(_ENQUEUE, values)).scalar_one())
