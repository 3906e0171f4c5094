"""Finds the passages of a tenant's stores that are nearest to a question."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from app.database.engine import Database
from app.errors import ContextTooLong, NotFound
from app.grounding import Embedder, Retrieved
from app.knowledge.retrieval import store
from app.knowledge.retrieval.model import Hit
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
        """Raises: NotFound; ContextTooLong; RetryableError while embedder or database are away."""
        try:
            hits = await self.search(
                tenant_id, store_ids, [question], max_results=max_results, score_threshold=score_threshold
            )
        except ContextTooLong as exc:
            raise ContextTooLong(exc.message, param="messages") from None
        return Retrieved(tuple(hit.passage for hit in hits), "vector")

    async def search(
        self,
        tenant_id: TenantId,
        store_ids: Sequence[UUID],
        questions: Sequence[str],
        *,
        max_results: int,
        score_threshold: float = 0.0,
    ) -> list[Hit]:
        """Of several questions a passage need answer but one: its score is the best. Raises: as `retrieve`."""
        wanted = list(dict.fromkeys(store_ids))
        async with self._database.tenant(tenant_id) as session:
            if await store.count_stores(session, tenant_id, wanted) != len(wanted):
                raise NotFound("no vector store with this id")
        # No connection is held while the embedder works.
        try:
            vectors = await self._embedder.embed(questions, "query")
        except ContextTooLong as exc:  # it names its own parameter; ours is another
            raise ContextTooLong(exc.message, param="query") from None
        async with self._database.tenant(tenant_id) as session:
            found = await store.nearest(session, tenant_id, wanted, vectors, n=max_results)
        return [hit for hit in found if hit.passage.score >= score_threshold]
