"""What all table declarations share: one metadata with named constraints, so that migrations can name them too."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from advanced_alchemy.base import CommonTableAttributes
from sqlalchemy import DateTime, MetaData, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(CommonTableAttributes, DeclarativeBase):
    """Declarations live in each feature's `tables.py`; queries in its `store.py`."""

    metadata = MetaData(naming_convention=NAMING)
    __abstract__ = True


class TenantOwned:
    """A row of one tenant. Its table has forced row-level security; its primary key begins with `tenant_id`."""

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)


class Created:
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
