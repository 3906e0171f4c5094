"""Tables of budgets. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Created, TenantOwned


def _of_budget() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id", "budget_id"], ["budgets.tenant_id", "budgets.id"], ondelete="CASCADE")


class BudgetRow(TenantOwned, Created, Base):
    """A budget. One of `user_id`, `key_id` and `model` is set, as `scope` says; of a tenant's none."""

    __tablename__ = "budgets"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "key_id"], ["api_keys.tenant_id", "api_keys.id"], ondelete="CASCADE"),
        UniqueConstraint(
            "tenant_id",
            "scope",
            "user_id",
            "key_id",
            "model",
            "period",
            name="uq_budgets_of_one",
            postgresql_nulls_not_distinct=True,
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    user_id: Mapped[UUID | None]
    key_id: Mapped[UUID | None]
    model: Mapped[str | None] = mapped_column(Text)
    period: Mapped[str] = mapped_column(Text)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    allow_unpriced: Mapped[bool]
    webhook_url: Mapped[str | None] = mapped_column(Text)


class BudgetSpendingRow(TenantOwned, Base):
    """What the ledger's entries of one period add up to."""

    __tablename__ = "budget_spending"
    __table_args__ = (_of_budget(),)

    budget_id: Mapped[UUID] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    spent_nusd: Mapped[int] = mapped_column(BigInteger)


class BudgetLeaseRow(TenantOwned, Base):
    """What one process may spend of one period, and has not been entered yet. `holder`: its journal's name."""

    __tablename__ = "budget_leases"
    __table_args__ = (_of_budget(), Index("ix_budget_leases_holder", "holder"))

    budget_id: Mapped[UUID] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    holder: Mapped[str] = mapped_column(Text, primary_key=True)
    granted_nusd: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class BudgetAlertRow(TenantOwned, Created, Base):
    """A threshold that a period's spending has reached. `next_try_at` is null once it was told."""

    __tablename__ = "budget_alerts"
    __table_args__ = (
        _of_budget(),
        Index("ix_budget_alerts_due", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
    )

    budget_id: Mapped[UUID] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    percent: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    spent_nusd: Mapped[int] = mapped_column(BigInteger)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_try_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), server_default=func.now())
