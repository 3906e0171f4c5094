"""Tables of limits. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, ForeignKeyConstraint, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Created, TenantOwned


class LimitRow(TenantOwned, Created, Base):
    """What one tenant, user or key may use: `scope_id` is whose id it is. It goes with them."""

    __tablename__ = "limits"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "key_id"], ["api_keys.tenant_id", "api_keys.id"], ondelete="CASCADE"),
        CheckConstraint(
            "CASE scope WHEN 'tenant' THEN scope_id = tenant_id AND num_nonnulls(user_id, key_id) = 0"
            " WHEN 'user' THEN scope_id = user_id AND key_id IS NULL"
            " WHEN 'key' THEN scope_id = key_id AND user_id IS NULL ELSE false END",
            name="scope",
        ),
        CheckConstraint("least(requests_per_minute, tokens_per_minute, max_concurrency) >= 1", name="positive"),
        Index("ix_limits_tenant_id_user_id", "tenant_id", "user_id"),
        Index("ix_limits_tenant_id_key_id", "tenant_id", "key_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    user_id: Mapped[UUID | None]
    key_id: Mapped[UUID | None]
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    max_concurrency: Mapped[int | None] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
