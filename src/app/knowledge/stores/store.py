"""All SQL of vector stores and their files. Each function works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.paging import PageRequest, Rows, keyset
from app.knowledge.files.tables import DocumentRow, FileRow
from app.knowledge.stores.model import FileCounts, StoreFile, VectorStore
from app.knowledge.stores.tables import VectorStoreFileRow, VectorStoreRow

_IN_STORE = (
    VectorStoreFileRow.store_id,
    VectorStoreFileRow.file_id,
    VectorStoreFileRow.status,
    VectorStoreFileRow.stage,
    VectorStoreFileRow.n_done,
    VectorStoreFileRow.n_total,
    VectorStoreFileRow.error_code,
    VectorStoreFileRow.error_message,
    VectorStoreFileRow.attributes,
    VectorStoreFileRow.n_bytes,
    VectorStoreFileRow.created_at,
)


def _stores(tenant_id: UUID) -> Select[tuple[object, ...]]:
    """Stores with the counts of their files, in one statement."""

    def counted(status: str) -> ColumnElement[int]:
        return func.count().filter(VectorStoreFileRow.status == status).label(status)

    counts = (
        select(
            VectorStoreFileRow.store_id,
            *(counted(status) for status in ("in_progress", "completed", "failed", "cancelled")),
            func.count().label("total"),
            func.sum(VectorStoreFileRow.n_bytes).label("n_bytes"),
        )
        .where(VectorStoreFileRow.tenant_id == tenant_id)
        .group_by(VectorStoreFileRow.store_id)
        .subquery()
    )
    return (
        select(VectorStoreRow, counts)
        .outerjoin(counts, counts.c.store_id == VectorStoreRow.id)
        .where(VectorStoreRow.tenant_id == tenant_id)
    )


def _store(row: Sequence[Any]) -> VectorStore:
    found: VectorStoreRow = row[0]
    in_progress, completed, failed, cancelled, total, n_bytes = (int(n or 0) for n in row[2:8])
    return VectorStore(
        id=found.id,
        name=found.name,
        metadata=found.metadata_,
        embedding_model=found.embedding_model,
        created_at=found.created_at,
        last_active_at=found.last_active_at,
        file_counts=FileCounts(
            in_progress=in_progress, completed=completed, failed=failed, cancelled=cancelled, total=total
        ),
        n_bytes=n_bytes,
    )


async def insert_store(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    id: UUID,
    name: str,
    metadata: Mapping[str, str],
    embedding_model: str,
) -> None:
    session.add(
        VectorStoreRow(tenant_id=tenant_id, id=id, name=name, metadata_=dict(metadata), embedding_model=embedding_model)
    )
    await session.flush()


async def store_by_id(session: AsyncSession, tenant_id: UUID, store_id: UUID) -> VectorStore | None:
    row = (await session.execute(_stores(tenant_id).where(VectorStoreRow.id == store_id))).one_or_none()
    return _store(tuple(row)) if row else None


async def list_stores(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> Rows[VectorStore]:
    rows = await session.execute(keyset(_stores(tenant_id), VectorStoreRow.id, wanted))
    return Rows[VectorStore].cut([_store(tuple(row)) for row in rows], wanted.limit)


async def update_store(
    session: AsyncSession, tenant_id: UUID, store_id: UUID, *, name: str | None, metadata: Mapping[str, str] | None
) -> None:
    values: dict[str, object] = {"last_active_at": func.now()}
    if name is not None:
        values["name"] = name
    if metadata is not None:
        values["metadata_"] = dict(metadata)
    await session.execute(
        update(VectorStoreRow)
        .where(VectorStoreRow.tenant_id == tenant_id, VectorStoreRow.id == store_id)
        .values(**values)
    )


async def delete_store(session: AsyncSession, tenant_id: UUID, store_id: UUID) -> bool:
    """Its places for files and its passages go with it; the files themselves stay. Returns: whether it was there."""
    statement = (
        delete(VectorStoreRow)
        .where(VectorStoreRow.tenant_id == tenant_id, VectorStoreRow.id == store_id)
        .returning(VectorStoreRow.id)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def existing_files(session: AsyncSession, tenant_id: UUID, file_ids: Sequence[UUID]) -> set[UUID]:
    statement = select(FileRow.id).where(FileRow.tenant_id == tenant_id, FileRow.id.in_(file_ids))
    return set((await session.execute(statement)).scalars())


async def add_files(
    session: AsyncSession,
    tenant_id: UUID,
    store_id: UUID,
    file_ids: Sequence[UUID],
    attributes: Mapping[str, str | float | bool],
) -> list[UUID]:
    """Returns: those that are to be ingested: new ones, and those that failed before."""
    fresh = upsert(VectorStoreFileRow).values(
        [
            {"tenant_id": tenant_id, "store_id": store_id, "file_id": file_id, "attributes": dict(attributes)}
            for file_id in file_ids
        ]
    )
    statement = fresh.on_conflict_do_update(
        index_elements=["tenant_id", "store_id", "file_id"],
        set_={
            "status": "in_progress",
            "stage": "queued",
            "n_done": 0,
            "n_total": 0,
            "error_code": None,
            "error_message": None,
            "attributes": fresh.excluded.attributes,
            "updated_at": func.now(),
        },
        where=VectorStoreFileRow.status.in_(("failed", "cancelled")),
    ).returning(VectorStoreFileRow.file_id)
    return list((await session.execute(statement)).scalars())


async def file_in_store(session: AsyncSession, tenant_id: UUID, store_id: UUID, file_id: UUID) -> StoreFile | None:
    statement = _files(tenant_id, store_id).where(VectorStoreFileRow.file_id == file_id)
    row = (await session.execute(statement)).mappings().one_or_none()
    return StoreFile(**row) if row else None


async def list_files(
    session: AsyncSession, tenant_id: UUID, store_id: UUID, wanted: PageRequest, status: str | None
) -> Rows[StoreFile]:
    statement = _files(tenant_id, store_id)
    if status is not None:
        statement = statement.where(VectorStoreFileRow.status == status)
    rows = await session.execute(keyset(statement, VectorStoreFileRow.file_id, wanted))
    return Rows[StoreFile].cut([StoreFile(**row) for row in rows.mappings()], wanted.limit)


async def remove_file(session: AsyncSession, tenant_id: UUID, store_id: UUID, file_id: UUID) -> bool:
    """Its passages go with it; the file itself stays. Returns: whether it was there."""
    statement = (
        delete(VectorStoreFileRow)
        .where(
            VectorStoreFileRow.tenant_id == tenant_id,
            VectorStoreFileRow.store_id == store_id,
            VectorStoreFileRow.file_id == file_id,
        )
        .returning(VectorStoreFileRow.file_id)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def document_text(session: AsyncSession, tenant_id: UUID, file_id: UUID) -> str | None:
    """The stored text that offsets refer to."""
    statement = select(DocumentRow.text).where(DocumentRow.tenant_id == tenant_id, DocumentRow.file_id == file_id)
    return (await session.execute(statement)).scalar_one_or_none()


def _files(tenant_id: UUID, store_id: UUID) -> Select[Any]:
    statement = cast("Select[Any]", select(*_IN_STORE))
    return statement.where(VectorStoreFileRow.tenant_id == tenant_id, VectorStoreFileRow.store_id == store_id)
