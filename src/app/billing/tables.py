"""Tables of the ledger. Declarations only. They outlive tenants, keys and users, so they refer to none."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Date, DateTime, Double, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, TenantOwned


class CallRow(TenantOwned, Base):
    """One call. In partitions of a month of its own time, `calls_<year><month>`."""

    __tablename__ = "calls"
    __table_args__ = {"postgresql_partition_by": "RANGE (time)"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    key_id: Mapped[UUID | None]
    user_id: Mapped[UUID | None]
    model: Mapped[str] = mapped_column(Text)
    endpoint: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    target: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cached_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int | None] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int | None] = mapped_column(BigInteger)
    is_estimate: Mapped[bool]
    cost_nusd: Mapped[int | None] = mapped_column(BigInteger)
    latency_ms: Mapped[float | None] = mapped_column(Double)
    first_token_ms: Mapped[float | None] = mapped_column(Double)


class UsageDayRow(TenantOwned, Base):
    """The calls of a day (UTC), added up as they are entered: what summaries are made of.

    No key, user or target is the nil UUID, or an empty text: parts of a primary key cannot be null.
    """

    __tablename__ = "usage_days"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    unpriced: Mapped[int] = mapped_column(BigInteger)
    """Calls whose price is not known: they are missing in `cost_nusd`."""
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_nusd: Mapped[int] = mapped_column(BigInteger)
