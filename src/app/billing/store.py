"""All SQL of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.model import LedgerEntry, time_of
from app.billing.tables import CallRow, UsageDayRow
from app.database.paging import PageRequest, keyset

Grouping = Literal["tenant", "user", "key", "model", "target", "day"]

_NAMES = ", ".join(CallRow.__table__.columns.keys())
_SUMS = ("calls", "errors", "unpriced", "input_tokens", "output_tokens", "cost_nusd")

# Only rows that were not there yet are added to the days' sums, so entering them again changes nothing. The order
# of the sums keeps two processes from waiting for each other.
_ENTER = text(
    f"""
    WITH fresh AS (
      INSERT INTO calls ({_NAMES})
      SELECT {_NAMES} FROM jsonb_populate_recordset(CAST(NULL AS calls), CAST(:entries AS jsonb))
      ON CONFLICT DO NOTHING
      RETURNING *
    )
    INSERT INTO usage_days AS days (tenant_id, day, model, target, key_id, user_id, {", ".join(_SUMS)})
    SELECT tenant_id, CAST(time AT TIME ZONE 'UTC' AS date), model, coalesce(target, ''), coalesce(key_id, :nil),
           coalesce(user_id, :nil), count(*), count(*) FILTER (WHERE outcome NOT IN ('ok', 'cached')),
           count(*) FILTER (WHERE cost_nusd IS NULL), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
           coalesce(sum(cost_nusd), 0)
    FROM fresh GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (tenant_id, day, model, target, key_id, user_id) DO UPDATE SET
      {", ".join(f"{name} = days.{name} + excluded.{name}" for name in _SUMS)}
    """  # noqa: S608  # names of columns
)


async def make_partitions(session: AsyncSession, months: Sequence[datetime]) -> None:
    """Those that are there stay as they are. For the ledger's role."""
    for moment in months:
        await session.execute(text("select make_calls_partition(:moment)"), {"moment": moment})


async def enter(session: AsyncSession, entries: Sequence[LedgerEntry]) -> None:
    """Each once, however often it is entered. The partitions must be there. For the ledger's role."""
    rows = [{**msgspec.structs.asdict(entry), "time": time_of(entry.id)} for entry in entries]
    await session.execute(_ENTER, {"entries": msgspec.json.encode(rows).decode(), "nil": UUID(int=0)})


async def page(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> list[CallRow]:
    """Newest first, one more than asked for if there is one."""
    statement = select(CallRow).where(CallRow.tenant_id == tenant_id)
    if wanted.after is not None:  # keeps other months' partitions out
        statement = statement.where(CallRow.time <= time_of(wanted.after))
    return list((await session.execute(keyset(statement, CallRow.id, wanted))).scalars())


async def summary(
    session: AsyncSession, tenant_id: UUID, by: Sequence[Grouping], since: date, until: date
) -> list[dict[str, Any]]:
    """Sums of the days from `since` to `until`, both included, one row for each combination of what is grouped by."""
    row = UsageDayRow
    columns: dict[Grouping, Any] = {
        "tenant": row.tenant_id,
        "user": row.user_id,
        "key": row.key_id,
        "model": row.model,
        "target": row.target,
        "day": row.day,
    }
    groups = [columns[name].label(f"by_{name}") for name in by]
    sums = [func.sum(getattr(row, name)).label(name) for name in _SUMS]
    statement = (
        select(*groups, *sums)
        .where(row.tenant_id == tenant_id, row.day >= since, row.day <= until)
        .group_by(*(columns[name] for name in by))
        .order_by(*(columns[name] for name in by))
    )
    return [dict(found) for found in (await session.execute(statement)).mappings()]
