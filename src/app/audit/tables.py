"""Tables of the audit log. Declarations only. The database itself says what an event's place and hash are."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, Computed, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, TenantOwned


class AuditEventRow(TenantOwned, Base):
    """One event. `payload` is the JSON text that was hashed, letter by letter; `action` is computed from it."""

    __tablename__ = "audit_events"
    __table_args__ = (UniqueConstraint("tenant_id", "id"),)

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[UUID]
    payload: Mapped[str] = mapped_column(Text)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    action: Mapped[str | None] = mapped_column(Text, Computed("payload::jsonb->>'action'", persisted=True))


class AuditHeadRow(TenantOwned, Base):
    """The end of a tenant's chain, so that events cut off from it are missed."""

    __tablename__ = "audit_heads"

    sequence: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditSubjectRow(TenantOwned, Base):
    """What a pseudonym in an event stands for. Deleted when the person is erased: the chain stays whole."""

    __tablename__ = "audit_subjects"
    __table_args__ = (UniqueConstraint("tenant_id", "person", "kind", "value"),)

    pseudonym: Mapped[UUID] = mapped_column(primary_key=True)
    person: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    value: Mapped[str] = mapped_column(Text)
