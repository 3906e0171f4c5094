"""Finds the passages of a tenant's stores that are nearest to a question."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from app.database.engine import Database
from app.errors import NotFound
from app.grounding import Embedder, Retrieved
from app.knowledge.retrieval import store
from plugins.contract.principal import TenantId


class VectorRetriever:
    """The `Retriever` port on pgvector."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database = database
        self._embedder = embedder

    async def retrieve(
        self,
        tenant_id: TenantId,
        store_ids: Sequence[UUID],
        question: str,
        *,
        max_results: int,
        score_threshold: float = 0.0,
    ) -> Retrieved:
        """Raises: NotFound; RetryableError while embedder or database are away."""
        wanted = list(dict.fromkeys(store_ids))
        async with self._database.tenant(tenant_id) as session:
            if await store.count_stores(session, tenant_id, wanted) != len(wanted):
                raise NotFound("no vector store with this id")
        # No connection is held while the embedder works.
        (vector,) = await self._embedder.embed([question], "query")
        async with self._database.tenant(tenant_id) as session:
            found = await store.nearest(session, tenant_id, wanted, vector, n=max_results)
        return Retrieved(tuple(passage for passage in found if passage.score >= score_threshold), "vector")
