"""Tables of files. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, ForeignKeyConstraint, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Created, TenantOwned


class FileRow(TenantOwned, Created, Base):
    """An uploaded file. Its bytes are in the object store, under tenant and id."""

    __tablename__ = "files"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    content_type: Mapped[str | None] = mapped_column(Text)
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)


class LooseObjectRow(TenantOwned, Base):
    """Bytes that no file answers for: an upload under way, or a file that was deleted (a trigger writes that one).

    Whoever finishes takes the row away; what is left when it is due is removed by the sweep.
    """

    __tablename__ = "loose_objects"

    file_id: Mapped[UUID] = mapped_column(primary_key=True)
    due_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class DocumentRow(TenantOwned, Created, Base):
    """The text of a file as it was read: what every offset refers to."""

    __tablename__ = "documents"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "file_id"], ["files.tenant_id", "files.id"], ondelete="CASCADE"),
    )

    file_id: Mapped[UUID] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    n_chars: Mapped[int]
    parser: Mapped[str] = mapped_column(Text)
