"""Tables of vector stores. Declarations only; queries are in `store.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import BigInteger, DateTime, ForeignKey, ForeignKeyConstraint, Index, Integer, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Created, TenantOwned


class VectorStoreRow(TenantOwned, Created, Base):
    """A named set of files that is searched as one."""

    __tablename__ = "vector_stores"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, server_default="")
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default="{}")
    embedding_model: Mapped[str] = mapped_column(Text)
    last_active_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class VectorStoreFileRow(TenantOwned, Created, Base):
    """A file in a store, and how far its ingestion is: `n_done` of `n_total` passages are embedded."""

    __tablename__ = "vector_store_files"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "store_id"], ["vector_stores.tenant_id", "vector_stores.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["tenant_id", "file_id"], ["files.tenant_id", "files.id"], ondelete="CASCADE"),
        Index(None, "tenant_id", "file_id"),
        Index("ix_vector_store_files_in_progress", "updated_at", postgresql_where=text("status = 'in_progress'")),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    file_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text, server_default="in_progress")
    stage: Mapped[str] = mapped_column(Text, server_default="queued")
    n_done: Mapped[int] = mapped_column(Integer, server_default="0")
    n_total: Mapped[int] = mapped_column(Integer, server_default="0")
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    n_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class ChunkRow(TenantOwned, Base):
    """A passage of a document and its vector. Partitioned by hash of the tenant: a search reads one partition."""

    __tablename__ = "chunks"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "store_id", "file_id"],
            ["vector_store_files.tenant_id", "vector_store_files.store_id", "vector_store_files.file_id"],
            ondelete="CASCADE",
        ),
        {"postgresql_partition_by": "HASH (tenant_id)"},
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    file_id: Mapped[UUID] = mapped_column(primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int]
    end: Mapped[int]
    heading: Mapped[str] = mapped_column(Text, server_default="")
    text: Mapped[str] = mapped_column(Text)
    embedding: Mapped[Any] = mapped_column(HALFVEC())
    """Without a fixed size: a store chooses its embedding model."""
