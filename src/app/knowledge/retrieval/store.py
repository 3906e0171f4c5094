"""All SQL of retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pgvector import HalfVector
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from app.grounding import Passage
from app.ids import encode_id
from app.knowledge.files.tables import FileRow
from app.knowledge.retrieval.model import Hit
from app.knowledge.stores.tables import ChunkRow, VectorStoreFileRow, VectorStoreRow


async def count_stores(session: AsyncSession, tenant_id: UUID, store_ids: Sequence[UUID]) -> int:
    statement = select(func.count()).where(VectorStoreRow.tenant_id == tenant_id, VectorStoreRow.id.in_(store_ids))
    return (await session.execute(statement)).scalar_one()


async def nearest(
    session: AsyncSession, tenant_id: UUID, store_ids: Sequence[UUID], questions: Sequence[Sequence[float]], *, n: int
) -> list[Hit]:
    """The `n` passages nearest by cosine to any of the questions, best first: exact, in the tenant's own partition.

    Exact search has recall 1.0 and takes 25–45 ms for a tenant of 24,000 passages, 1–2 ms for one of a thousand
    (measured on two busy cores), where an index with a tenant filter has a recall of 0.12–0.24 (pgvector #259).
    The same bytes are found once, whether a file is in two stores or was uploaded twice; that is settled among the few
    files, because among the many passages it costs 100 ms.
    """
    places = (
        select(VectorStoreFileRow.store_id, VectorStoreFileRow.file_id, VectorStoreFileRow.attributes, FileRow.filename)
        .ext(distinct_on(FileRow.sha256))
        .join(
            FileRow,
            (FileRow.tenant_id == VectorStoreFileRow.tenant_id) & (FileRow.id == VectorStoreFileRow.file_id),
        )
        .where(
            VectorStoreFileRow.tenant_id == tenant_id,
            VectorStoreFileRow.store_id.in_(store_ids),
            VectorStoreFileRow.status == "completed",
        )
        .order_by(FileRow.sha256, VectorStoreFileRow.store_id, VectorStoreFileRow.file_id)
        .subquery()
    )
    distance = func.least(*(ChunkRow.embedding.cosine_distance(HalfVector(list(vector))) for vector in questions))
    statement = (
        select(
            places.c.file_id,
            places.c.filename,
            places.c.attributes,
            ChunkRow.start,
            ChunkRow.text,
            ChunkRow.heading,
            distance.label("distance"),
        )
        .join(places, (places.c.store_id == ChunkRow.store_id) & (places.c.file_id == ChunkRow.file_id))
        .where(ChunkRow.tenant_id == tenant_id)
        .order_by(distance, ChunkRow.file_id, ChunkRow.ordinal)
        .limit(n)
    )
    return [
        Hit(
            passage=Passage(
                file_id=encode_id("file", row.file_id),
                filename=row.filename,
                text=row.text,
                start=row.start,
                heading=row.heading,
                score=1 - row.distance,
            ),
            attributes=row.attributes,
        )
        for row in await session.execute(statement)
    ]
