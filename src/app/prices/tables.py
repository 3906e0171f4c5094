"""Tables of prices. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Created, TenantOwned


class PriceRow(TenantOwned, Created, Base):
    """One version. Rows are only added: they explain what calls cost, so like those they outlive their tenant.

    Without input and output it says that the tenant pays what everybody does, from then on.
    """

    __tablename__ = "prices"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(Text)
    input_nusd_per_mtok: Mapped[int | None] = mapped_column(BigInteger)
    output_nusd_per_mtok: Mapped[int | None] = mapped_column(BigInteger)
    cached_nusd_per_mtok: Mapped[int | None] = mapped_column(BigInteger)
    cache_write_nusd_per_mtok: Mapped[int | None] = mapped_column(BigInteger)
    reasoning_nusd_per_mtok: Mapped[int | None] = mapped_column(BigInteger)
    valid_from: Mapped[datetime] = mapped_column(DateTime(timezone=True))
