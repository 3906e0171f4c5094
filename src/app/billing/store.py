"""All SQL of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.budgets.model import THRESHOLDS_PERCENT
from app.billing.model import LedgerEntry, time_of
from app.billing.tables import CallRow, UsageDayRow

Grouping = Literal["tenant", "user", "key", "model", "target", "day"]

_NAMES = ", ".join(CallRow.__table__.columns.keys())
_SUMS = ("calls", "errors", "unpriced", "input_tokens", "output_tokens", "cost_nusd")

_LOCK = "hashtext('wattos ledger')"
_LOCK_SHARED = text(f"select pg_advisory_xact_lock_shared({_LOCK})")
_LOCK_ALONE = text(f"select pg_advisory_xact_lock({_LOCK})")

# Only rows that were not there yet are added to the days' sums and to budgets, so entering them again changes nothing.
# The order of the sums keeps two processes from waiting for each other. What a budget is charged is taken off the lease
# of the process that wrote the entry, in the same statement: no money is counted twice, or not at all.
_ENTER = text(
    f"""
    WITH fresh AS (
      INSERT INTO calls ({_NAMES})
      SELECT {_NAMES} FROM jsonb_populate_recordset(CAST(NULL AS calls), CAST(:entries AS jsonb))
      ON CONFLICT DO NOTHING
      RETURNING *
    ), summed AS (
      INSERT INTO usage_days AS days (tenant_id, day, model, target, key_id, user_id, {", ".join(_SUMS)})
      SELECT tenant_id, CAST(time AT TIME ZONE 'UTC' AS date), model, coalesce(target, ''), coalesce(key_id, :nil),
             coalesce(user_id, :nil), count(*), count(*) FILTER (WHERE outcome NOT IN ('ok', 'cached')),
             count(*) FILTER (WHERE cost_nusd IS NULL), coalesce(sum(input_tokens), 0),
             coalesce(sum(output_tokens), 0), coalesce(sum(cost_nusd), 0)
      FROM fresh GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
      ON CONFLICT (tenant_id, day, model, target, key_id, user_id) DO UPDATE SET
        {", ".join(f"{name} = days.{name} + excluded.{name}" for name in _SUMS)}
    ), charged AS (
      SELECT b.tenant_id, b.id AS budget_id, b.amount_nusd, sum(fresh.cost_nusd) AS cost_nusd,
             CASE b.period WHEN 'total' THEN timestamptz 'epoch'
                           ELSE date_trunc(b.period, fresh.time, 'UTC') END AS period_start
      FROM fresh JOIN budgets b ON b.tenant_id = fresh.tenant_id AND (
        b.scope = 'tenant' OR b.user_id = fresh.user_id OR b.key_id = fresh.key_id OR b.model = fresh.model)
      WHERE fresh.cost_nusd > 0
      GROUP BY 1, 2, 3, 5
    ), spent AS (
      INSERT INTO budget_spending AS known (tenant_id, budget_id, period_start, spent_nusd)
      SELECT tenant_id, budget_id, period_start, cost_nusd FROM charged ORDER BY 1, 2, 3
      ON CONFLICT (tenant_id, budget_id, period_start)
        DO UPDATE SET spent_nusd = known.spent_nusd + excluded.spent_nusd
      RETURNING tenant_id, budget_id, period_start, spent_nusd
    ), told AS (
      INSERT INTO budget_alerts (tenant_id, budget_id, period_start, percent, spent_nusd, amount_nusd)
      SELECT tenant_id, budget_id, period_start, percent, spent.spent_nusd, amount_nusd
      FROM spent JOIN charged USING (tenant_id, budget_id, period_start),
           unnest(CAST(:thresholds AS smallint[])) AS percent
      WHERE CAST(spent.spent_nusd AS numeric) * 100 >= CAST(percent AS numeric) * amount_nusd
      ORDER BY 1, 2, 3, 4
      ON CONFLICT DO NOTHING
    )
    UPDATE budget_leases AS lease SET granted_nusd = greatest(lease.granted_nusd - charged.cost_nusd, 0)
    FROM spent JOIN charged USING (tenant_id, budget_id, period_start)
    WHERE lease.tenant_id = spent.tenant_id AND lease.budget_id = spent.budget_id
      AND lease.period_start = spent.period_start AND lease.holder = :holder
    RETURNING lease.budget_id, lease.period_start, lease.granted_nusd
    """  # noqa: S608  # names of columns
)

Leases = Mapping[tuple[UUID, datetime], int]
"""What a process still has of each budget's period, in nano-dollars."""


async def make_partitions(session: AsyncSession, months: Sequence[datetime]) -> None:
    """Those that are there stay as they are. For the ledger's role."""
    for moment in months:
        await session.execute(text("select make_calls_partition(:moment)"), {"moment": moment})


async def enter(session: AsyncSession, entries: Sequence[LedgerEntry], holder: str) -> Leases:
    """Each once, however often it is entered. The partitions must be there. For the ledger's role.

    `holder`: the journal that they are from. Returns: what its process still has of the budgets that were charged.
    """
    rows = [{**msgspec.structs.asdict(entry), "time": time_of(entry.id)} for entry in entries]
    values = {
        "entries": msgspec.json.encode(rows).decode(),
        "nil": UUID(int=0),
        "holder": holder,
        "thresholds": list(THRESHOLDS_PERCENT),
    }
    await session.execute(_LOCK_SHARED)
    found = await session.execute(_ENTER, values)
    return {(budget_id, period_start): granted_nusd for budget_id, period_start, granted_nusd in found}


async def wait_for_entries(session: AsyncSession) -> None:
    """Until the transaction ends nothing is entered: sums of what was entered until now miss nothing."""
    await session.execute(_LOCK_ALONE)


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
