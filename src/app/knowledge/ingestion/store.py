"""All SQL of ingestion. Each function works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from pgvector import HalfVector
from sqlalchemy import ColumnElement, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.knowledge.files.tables import DocumentRow, FileRow
from app.knowledge.ingestion.model import Chunk, CutDocument
from app.knowledge.stores.tables import ChunkRow, VectorStoreFileRow


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A file that waits to be ingested."""

    filename: str
    content_type: str | None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a store of a tenant."""

    tenant_id: UUID
    store_id: UUID
    file_id: UUID


async def pending(session: AsyncSession, place: Place) -> Pending | None:
    """None when file or store are gone, or the work is done or cancelled."""
    statement = (
        select(FileRow.filename, FileRow.content_type)
        .join(
            VectorStoreFileRow,
            (VectorStoreFileRow.tenant_id == FileRow.tenant_id) & (VectorStoreFileRow.file_id == FileRow.id),
        )
        .where(*_at(place), FileRow.tenant_id == place.tenant_id, VectorStoreFileRow.status == "in_progress")
    )
    row = (await session.execute(statement)).one_or_none()
    return Pending(filename=row.filename, content_type=row.content_type) if row else None


async def advance(session: AsyncSession, place: Place, **values: object) -> bool:
    """Write progress or an ending. Returns: whether the place is still there and in progress."""
    statement = (
        update(VectorStoreFileRow)
        .where(*_at(place), VectorStoreFileRow.status == "in_progress")
        .values(updated_at=func.now(), **values)
        .returning(VectorStoreFileRow.file_id)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def save_document(session: AsyncSession, place: Place, document: CutDocument) -> bool:
    """Keep the text that offsets refer to. Returns: False when this very text was there already."""
    values = {"text": document.text, "n_chars": len(document.text), "parser": document.parser}
    statement = upsert(DocumentRow).values(tenant_id=place.tenant_id, file_id=place.file_id, **values)
    statement = statement.on_conflict_do_update(
        index_elements=["tenant_id", "file_id"], set_=values, where=DocumentRow.text != statement.excluded.text
    )
    return (await session.execute(statement.returning(DocumentRow.file_id))).one_or_none() is not None


async def reopen_elsewhere(session: AsyncSession, place: Place) -> list[UUID]:
    """Put the same file back in progress in other stores that have completed it. Returns: these stores."""
    statement = (
        update(VectorStoreFileRow)
        .where(
            VectorStoreFileRow.tenant_id == place.tenant_id,
            VectorStoreFileRow.file_id == place.file_id,
            VectorStoreFileRow.store_id != place.store_id,
            VectorStoreFileRow.status == "completed",
        )
        .values(status="in_progress", stage="queued", n_done=0, n_total=0, updated_at=func.now())
        .returning(VectorStoreFileRow.store_id)
    )
    return list((await session.execute(statement)).scalars())


async def keep_chunks(session: AsyncSession, place: Place, chunks: Sequence[Chunk]) -> int:
    """Keep the passages that an interrupted run stored, as far as they are the first of `chunks`; clear all others.

    Returns: how many are kept.
    """
    columns = (ChunkRow.ordinal, ChunkRow.start, ChunkRow.end, ChunkRow.heading, ChunkRow.text)
    rows = await session.execute(select(*columns).where(*_chunks(place)).order_by(ChunkRow.ordinal))
    n_kept = 0
    for row, chunk in zip(rows, chunks, strict=False):
        if Chunk(*row) != chunk:
            break
        n_kept += 1
    await session.execute(delete(ChunkRow).where(*_chunks(place), ChunkRow.ordinal >= n_kept))
    return n_kept


async def count_chunks(session: AsyncSession, place: Place) -> int:
    return (await session.execute(select(func.count()).where(*_chunks(place)))).scalar_one()


async def insert_chunks(
    session: AsyncSession, place: Place, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]]
) -> None:
    await session.execute(
        insert(ChunkRow),
        [
            {
                "tenant_id": place.tenant_id,
                "store_id": place.store_id,
                "file_id": place.file_id,
                "ordinal": chunk.ordinal,
                "start": chunk.start,
                "end": chunk.end,
                "heading": chunk.heading,
                "text": chunk.text,
                "embedding": HalfVector(list(vector)),
            }
            for chunk, vector in zip(chunks, vectors, strict=True)
        ],
    )


async def places_without_job(session: AsyncSession, task: str, *, idle_s: float, limit: int) -> list[Place]:
    """Files in progress of all tenants that nothing happened to for so long, and that no job of `task` is about.

    For the role JOBS.
    """
    rows = await session.execute(_WITHOUT_JOB, {"task": task, "idle_s": idle_s, "limit": limit})
    return [Place(tenant_id=row.tenant_id, store_id=row.store_id, file_id=row.file_id) for row in rows]


_WITHOUT_JOB = text(
    """
    select tenant_id, store_id, file_id from vector_store_files as file
    where status = 'in_progress' and updated_at < now() - make_interval(secs => :idle_s)
      and not exists (
        select from jobs.procrastinate_jobs as job
        where job.task_name = :task and job.status not in ('succeeded', 'cancelled')
          and job.args ->> 'store_id' = file.store_id::text and job.args ->> 'file_id' = file.file_id::text
      )
    limit :limit
    """
)


async def restart(session: AsyncSession, place: Place, *, idle_s: float) -> bool:
    """Back to the beginning. Returns: False when something happened to it meanwhile."""
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, idle_s)
    statement = (
        update(VectorStoreFileRow)
        .where(*_at(place), VectorStoreFileRow.status == "in_progress", VectorStoreFileRow.updated_at < since)
        .values(stage="queued", updated_at=func.now())
        .returning(VectorStoreFileRow.file_id)
    )
    return (await session.execute(statement)).one_or_none() is not None


def _at(place: Place) -> tuple[ColumnElement[bool], ...]:
    return (
        VectorStoreFileRow.tenant_id == place.tenant_id,
        VectorStoreFileRow.store_id == place.store_id,
        VectorStoreFileRow.file_id == place.file_id,
    )


def _chunks(place: Place) -> tuple[ColumnElement[bool], ...]:
    return (
        ChunkRow.tenant_id == place.tenant_id,
        ChunkRow.store_id == place.store_id,
        ChunkRow.file_id == place.file_id,
    )
