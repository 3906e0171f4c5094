"""How long calls are kept: whole months of them go at once, and the next month has its place before it begins."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.engine import Database, Role

logger = logging.getLogger("billing")

AHEAD = timedelta(days=7)
"""How long before a month begins its partition is made: a worker may be away for a week, and no call ever waits."""

LOCK_TIMEOUT = "500ms"
"""Making a partition locks `calls`: whoever asks for those waits behind it while it waits for others. The function that
drops one has the same of its own."""

BATCH = 10_000
"""Sums deleted in one transaction: 0.1 s."""


def now() -> datetime:
    return datetime.now(UTC)


class Retention:
    """A chore of upkeep, for one or several processes at once."""

    def __init__(
        self, database: Database, *, calls_days: int, sums_days: int, clock: Callable[[], datetime] = now
    ) -> None:
        """Days that calls, and their sums by day, are kept. 0: for ever."""
        self._database = database
        self._calls_days = calls_days
        self._sums_days = sums_days
        self._clock = clock

    async def keep(self) -> None:
        """Raises: RetryableError, also while others hold `calls`: then it is left until the next time."""
        moment = self._clock()
        for month in (moment, moment + AHEAD):
            async with self._database.role(Role.LEDGER) as session:
                await session.execute(text("select set_config('lock_timeout', :limit, true)"), {"limit": LOCK_TIMEOUT})
                await session.execute(text("select make_calls_partition(:moment)"), {"moment": month})
        if self._calls_days:
            await self._drop_calls(moment - timedelta(days=self._calls_days))
        if self._sums_days:
            await self._delete_sums((moment - timedelta(days=self._sums_days)).date())

    async def _drop_calls(self, before: datetime) -> None:
        """Months that end before that: one transaction each, so that the lock is short."""
        while True:
            async with self._database.role(Role.LEDGER) as session:
                found = await session.execute(text("select drop_calls_partition(:before)"), {"before": before})
                dropped = found.scalar_one()
            if dropped is None:
                return
            logger.info("%s was dropped: its calls are older than USAGE_RETENTION_DAYS", dropped)

    async def _delete_sums(self, before: date) -> None:
        n_deleted = BATCH
        while n_deleted == BATCH:
            async with self._database.role(Role.LEDGER) as session:
                n_deleted = await _delete_sums(session, before)


async def _delete_sums(session: AsyncSession, before: date) -> int:
    """How many: `BATCH` at most."""
    deleted = await session.execute(
        text(
            """
            WITH gone AS (
              DELETE FROM usage_days WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM usage_days WHERE day < :before LIMIT :batch FOR UPDATE SKIP LOCKED
              )) RETURNING 1
            )
            SELECT count(*) FROM gone
            """
        ),
        {"before": before, "batch": BATCH},
    )
    return int(deleted.scalar_one())
