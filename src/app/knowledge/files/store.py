"""All SQL of files. Each function works in the caller's transaction."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.paging import PageRequest, Rows, keyset
from app.knowledge.files.model import StoredFile
from app.knowledge.files.tables import FileRow, LooseObjectRow

_FILE = (
    FileRow.id,
    FileRow.filename,
    FileRow.purpose,
    FileRow.content_type,
    FileRow.n_bytes,
    FileRow.created_at,
)


async def insert_file(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    id: UUID,
    filename: str,
    purpose: str,
    content_type: str | None,
    n_bytes: int,
    sha256: bytes,
) -> StoredFile:
    statement = (
        insert(FileRow)
        .values(
            tenant_id=tenant_id,
            id=id,
            filename=filename,
            purpose=purpose,
            content_type=content_type,
            n_bytes=n_bytes,
            sha256=sha256,
        )
        .returning(*_FILE)
    )
    return StoredFile(**(await session.execute(statement)).mappings().one())


async def file_by_id(session: AsyncSession, tenant_id: UUID, file_id: UUID) -> StoredFile | None:
    statement = select(*_FILE).where(FileRow.tenant_id == tenant_id, FileRow.id == file_id)
    row = (await session.execute(statement)).mappings().one_or_none()
    return StoredFile(**row) if row else None


async def list_files(
    session: AsyncSession, tenant_id: UUID, wanted: PageRequest, purpose: str | None
) -> Rows[StoredFile]:
    statement = select(*_FILE).where(FileRow.tenant_id == tenant_id)
    if purpose is not None:
        statement = statement.where(FileRow.purpose == purpose)
    rows = await session.execute(keyset(statement, FileRow.id, wanted))
    return Rows[StoredFile].cut([StoredFile(**row) for row in rows.mappings()], wanted.limit)


async def delete_file(session: AsyncSession, tenant_id: UUID, file_id: UUID) -> bool:
    """Its text, its places in vector stores and its passages go with it; its bytes become loose, due at once.

    Returns: whether it was there.
    """
    statement = delete(FileRow).where(FileRow.tenant_id == tenant_id, FileRow.id == file_id).returning(FileRow.id)
    return (await session.execute(statement)).one_or_none() is not None


async def loosen(session: AsyncSession, tenant_id: UUID, file_id: UUID, *, for_s: float) -> None:
    """Note bytes that are about to be written: due when they have no file after `for_s`."""
    due_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, for_s)
    await session.execute(insert(LooseObjectRow).values(tenant_id=tenant_id, file_id=file_id, due_at=due_at))


async def settle(session: AsyncSession, tenant_id: UUID, file_id: UUID, *, only_due: bool = False) -> bool:
    """Take the note away: the bytes have a file now, or are gone. Until this transaction ends, nobody else can.

    Returns: whether there was one.
    """
    statement = delete(LooseObjectRow).where(LooseObjectRow.tenant_id == tenant_id, LooseObjectRow.file_id == file_id)
    if only_due:
        statement = statement.where(LooseObjectRow.due_at <= func.now())
    return (await session.execute(statement.returning(LooseObjectRow.file_id))).one_or_none() is not None


async def due_objects(session: AsyncSession, limit: int) -> list[tuple[UUID, UUID]]:
    """Tenant and file of bytes that are due, of all tenants. For the role JOBS."""
    statement = select(LooseObjectRow.tenant_id, LooseObjectRow.file_id).where(LooseObjectRow.due_at <= func.now())
    rows = await session.execute(statement.order_by(LooseObjectRow.due_at).limit(limit))
    return [(row.tenant_id, row.file_id) for row in rows]
