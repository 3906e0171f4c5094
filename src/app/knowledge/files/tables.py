"""Tables of files. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, LargeBinary, Text
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
