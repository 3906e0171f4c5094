"""All SQL of budgets. What the ledger spends of them is entered with its entries, in `app.billing.store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Numeric, Uuid, cast, column, delete, func, insert, select, table, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.budgets.model import Alert, Budget, Use
from app.billing.budgets.tables import BudgetAlertRow, BudgetLeaseRow, BudgetRow, BudgetSpendingRow
from app.billing.store import wait_for_entries
from app.billing.tables import UsageDayRow
from app.database.paging import PageRequest, Rows, keyset

_SHOWN = (
    BudgetRow.id,
    BudgetRow.tenant_id,
    BudgetRow.scope,
    BudgetRow.user_id,
    BudgetRow.key_id,
    BudgetRow.model,
    BudgetRow.period,
    BudgetRow.amount_nusd,
    BudgetRow.allow_unpriced,
    BudgetRow.webhook_url,
    BudgetRow.created_at,
)

_LEASE = text(
    "select granted, remaining from lease_budget(:tenant_id, :budget_id, :period_start, :holder,"
    " :needed, :smallest, :wished, :lease, :grace)"
)


async def all_of(session: AsyncSession, tenant_id: UUID) -> list[Budget]:
    found = await session.execute(select(*_SHOWN).where(BudgetRow.tenant_id == tenant_id))
    return [Budget(**one) for one in found.mappings()]


async def add(session: AsyncSession, budget: Mapping[str, Any]) -> Budget:
    """Raises: IntegrityError for one that is there already, or of nobody that there is."""
    return Budget(**(await session.execute(insert(BudgetRow).values(**budget).returning(*_SHOWN))).mappings().one())


async def begin_spending(session: AsyncSession, budget: Budget, period_start: datetime) -> None:
    """What was called in the period before there was a budget counts too. Entries wait until the transaction ends."""
    await wait_for_entries(session)
    row = UsageDayRow
    statement = select(func.coalesce(func.sum(row.cost_nusd), 0)).where(
        row.tenant_id == budget.tenant_id, row.day >= period_start.date()
    )
    match budget.scope:
        case "user":
            statement = statement.where(row.user_id == budget.user_id)
        case "key":
            statement = statement.where(row.key_id == budget.key_id)
        case "model":
            statement = statement.where(row.model == budget.model)
        case "tenant":
            pass
    spent_nusd = int((await session.execute(statement)).scalar_one())
    await session.execute(
        insert(BudgetSpendingRow).values(
            tenant_id=budget.tenant_id, budget_id=budget.id, period_start=period_start, spent_nusd=spent_nusd
        )
    )


async def page(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> Rows[Budget]:
    statement = select(*_SHOWN).where(BudgetRow.tenant_id == tenant_id)
    rows = await session.execute(keyset(statement, BudgetRow.id, wanted))
    return Rows[Budget].cut([Budget(**found) for found in rows.mappings()], wanted.limit)


async def find(session: AsyncSession, tenant_id: UUID, budget_id: UUID, *, lock: bool = False) -> Budget | None:
    statement = select(*_SHOWN).where(BudgetRow.tenant_id == tenant_id, BudgetRow.id == budget_id)
    found = (await session.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    return Budget(**found) if found else None


async def tenant_of(session: AsyncSession, budget_id: UUID) -> UUID | None:
    """For the ledger's role."""
    return (await session.execute(select(BudgetRow.tenant_id).where(BudgetRow.id == budget_id))).scalar_one_or_none()


async def tenant_of_owner(session: AsyncSession, *, user_id: UUID | None, key_id: UUID | None) -> UUID | None:
    """Whose user or key it is. For the platform's role."""
    name, wanted = ("users", user_id) if user_id is not None else ("api_keys", key_id)
    whose = table(name, column("id", Uuid), column("tenant_id", Uuid))
    return (await session.execute(select(whose.c.tenant_id).where(whose.c.id == wanted))).scalar_one_or_none()


async def change(session: AsyncSession, budget: Budget, changes: Mapping[str, Any]) -> Budget:
    """With a larger amount, what was told of the smaller one is told again when it comes to it."""
    row = BudgetRow
    statement = update(row).where(row.tenant_id == budget.tenant_id, row.id == budget.id).values(**changes)
    changed = Budget(**(await session.execute(statement.returning(*_SHOWN))).mappings().one())
    if changed.amount_nusd > budget.amount_nusd:
        alerts = BudgetAlertRow
        await session.execute(
            delete(alerts).where(
                alerts.tenant_id == budget.tenant_id,
                alerts.budget_id == budget.id,
                cast(alerts.spent_nusd, Numeric) * 100 < cast(alerts.percent, Numeric) * changed.amount_nusd,
            )
        )
    return changed


async def remove(session: AsyncSession, tenant_id: UUID, budget_id: UUID) -> Budget | None:
    row = BudgetRow
    gone = await session.execute(delete(row).where(row.tenant_id == tenant_id, row.id == budget_id).returning(*_SHOWN))
    found = gone.mappings().one_or_none()
    return Budget(**found) if found else None


async def uses(
    session: AsyncSession, tenant_id: UUID, periods: Mapping[UUID, datetime], grace_s: float
) -> dict[UUID, Use]:
    """Of each budget's period, in two statements however many there are."""
    spending, leases = BudgetSpendingRow, BudgetLeaseRow
    ids = list(periods)
    spent = await session.execute(
        select(spending.budget_id, spending.period_start, spending.spent_nusd).where(
            spending.tenant_id == tenant_id,
            tuple_(spending.budget_id, spending.period_start).in_(list(periods.items())),
        )
    )
    lent = await session.execute(
        select(leases.budget_id, leases.period_start, func.sum(leases.granted_nusd))
        .where(
            leases.tenant_id == tenant_id,
            leases.budget_id.in_(ids),
            leases.expires_at + timedelta(seconds=grace_s) > func.now(),
        )
        .group_by(leases.budget_id, leases.period_start)
    )
    spent_nusd = {(budget_id, start): amount for budget_id, start, amount in spent}
    reserved_nusd = {(budget_id, start): int(amount) for budget_id, start, amount in lent}
    return {
        one: Use(
            period_start=start,
            spent_nusd=spent_nusd.get((one, start), 0),
            reserved_nusd=reserved_nusd.get((one, start), 0),
        )
        for one, start in periods.items()
    }


async def lease(
    session: AsyncSession,
    budget: Budget,
    period_start: datetime,
    *,
    holder: str,
    needed_nusd: int,
    smallest_nusd: int,
    wished_nusd: int,
    lease_s: float,
    grace_s: float,
) -> tuple[int, int] | None:
    """What the holder has now, and what is left for others. None: the budget is gone. For the ledger's role."""
    values = {
        "tenant_id": budget.tenant_id,
        "budget_id": budget.id,
        "period_start": period_start,
        "holder": holder,
        "needed": needed_nusd,
        "smallest": smallest_nusd,
        "wished": wished_nusd,
        "lease": timedelta(seconds=lease_s),
        "grace": timedelta(seconds=grace_s),
    }
    row = (await session.execute(_LEASE, values)).one_or_none()
    return None if row is None else (row.granted, row.remaining)


_GIVE_BACK = text(
    """
    UPDATE budget_leases AS lease SET granted_nusd = least(lease.granted_nusd, kept.nusd)
    FROM unnest(CAST(:budgets AS uuid[]), CAST(:periods AS timestamptz[]), CAST(:kept AS bigint[]))
         AS kept (budget_id, period_start, nusd)
    WHERE lease.budget_id = kept.budget_id AND lease.period_start = kept.period_start AND lease.holder = :holder
    """
)
_RENEW = text(
    """
    UPDATE budget_leases SET expires_at = clock_timestamp() + :lease
    WHERE holder = :holder AND expires_at + :grace > clock_timestamp()
    RETURNING budget_id, period_start, granted_nusd
    """
)
_END_EMPTY = text("DELETE FROM budget_leases WHERE holder = :holder AND granted_nusd = 0")

Key = tuple[UUID, datetime]
"""A budget, and when one of its periods began."""


async def give_back(session: AsyncSession, holder: str, kept: Sequence[tuple[Key, int]]) -> None:
    """Of what the holder has of these, all but so much. For the ledger's role."""
    values = {
        "budgets": [budget_id for (budget_id, _), _ in kept],
        "periods": [period_start for (_, period_start), _ in kept],
        "kept": [nusd for _, nusd in kept],
        "holder": holder,
    }
    await session.execute(_GIVE_BACK, values)


async def renew(session: AsyncSession, holder: str, lease_s: float, grace_s: float) -> dict[Key, int]:
    """All that the holder has, lent for longer; what is empty goes, and what lapsed may be others' by now. For the
    ledger's role.
    """
    await session.execute(_END_EMPTY, {"holder": holder})
    found = await session.execute(
        _RENEW, {"holder": holder, "lease": timedelta(seconds=lease_s), "grace": timedelta(seconds=grace_s)}
    )
    return {(budget_id, period_start): granted_nusd for budget_id, period_start, granted_nusd in found}


async def end_leases(session: AsyncSession, holder: str) -> None:
    """All of the holder's calls are entered. For the ledger's role."""
    await session.execute(delete(BudgetLeaseRow).where(BudgetLeaseRow.holder == holder))


async def end_lapsed(session: AsyncSession, grace_s: float) -> int:
    """Leases whose holder nobody has heard of for longer than the grace. For the ledger's role."""
    leases = BudgetLeaseRow
    lapsed = leases.expires_at + timedelta(seconds=grace_s) <= func.now()
    return len((await session.execute(delete(leases).where(lapsed).returning(leases.holder))).all())


_DUE = text(
    """
    WITH due AS (
      SELECT tenant_id, budget_id, period_start, percent FROM budget_alerts
      WHERE next_try_at <= now() ORDER BY next_try_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE budget_alerts a SET next_try_at = now() + :again, attempts = a.attempts + 1
    FROM due, budgets b
    WHERE (a.tenant_id, a.budget_id, a.period_start, a.percent)
        = (due.tenant_id, due.budget_id, due.period_start, due.percent)
      AND b.tenant_id = a.tenant_id AND b.id = a.budget_id
    RETURNING a.tenant_id, a.budget_id, a.period_start, a.percent, a.spent_nusd, a.amount_nusd, a.created_at,
              a.attempts, b.scope, b.period, b.webhook_url
    """
)


async def due_alerts(session: AsyncSession, limit: int, again_s: float) -> list[Alert]:
    """Taken by one process at a time; due again after `again_s` unless they are told by then. For the ledger's role."""
    found = await session.execute(_DUE, {"limit": limit, "again": timedelta(seconds=again_s)})
    return [Alert(**one) for one in found.mappings()]


async def put_off(session: AsyncSession, alert: Alert, again_s: float | None) -> None:
    """None: it was told, or nobody will be. For the ledger's role."""
    row = BudgetAlertRow
    statement = update(row).where(
        row.tenant_id == alert.tenant_id,
        row.budget_id == alert.budget_id,
        row.period_start == alert.period_start,
        row.percent == alert.percent,
    )
    later = None if again_s is None else func.now() + timedelta(seconds=again_s)
    await session.execute(statement.values(next_try_at=later))
