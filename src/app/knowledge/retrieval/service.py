"""Finds the passages of a tenant's stores that are nearest to a question: by vectors, else by words, else none.

A person waits for it: who does not answer soon counts as away, and what was found says how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

from app.database.engine import Database
from app.database.errors import DatabaseUnavailable
from app.errors import ContextTooLong, NotFound
from app.grounding import Retrieved
from app.knowledge.retrieval import store
from app.knowledge.retrieval.model import Found, Hit
from app.knowledge.retrieval.words import words_of
from app.response_cache.questions import KnownQuestions
from plugins.contract.errors import RetryableError
from plugins.contract.nulls import NullCache, NullInstrument
from plugins.contract.ports import Counter
from plugins.contract.principal import TenantId

DATABASE_PATIENCE_S = 3.0
"""For one connection and one look at an index, which take milliseconds. A frozen server holds its callers for up to
20 s until the breaker has opened: its driver is slow to give a connection up."""

SEARCH_PATIENCE_S = 10.0
"""For the search itself, which takes half a second by words in the largest stores measured (24,000 passages), on two
busy cores."""

T = TypeVar("T")
Vectors = Sequence[Sequence[float]]
Embed = Callable[[Sequence[str], Literal["query", "passage"]], Awaitable[Vectors]]
"""Unit vectors, one a text, in order. Raises: RetryableError, in a time that a person waits."""


class PassageRetriever:
    """The `Retriever` port on pgvector, and on plain text while the embedder is away."""

    def __init__(
        self, database: Database, embed: Embed, *, found: Counter | None = None, known: KnownQuestions | None = None
    ) -> None:
        """`found` has one label: the mode. `known`: what need not be embedded again."""
        self._database = database
        self._embed = embed
        self._known = known or KnownQuestions(NullCache(), "")
        self._found: Counter = found or NullInstrument()
        self._left_behind = set[asyncio.Task[Any]]()

    async def retrieve(
        self,
        tenant_id: TenantId,
        store_ids: Sequence[UUID],
        question: str,
        *,
        max_results: int,
        score_threshold: float = 0.0,
    ) -> Retrieved:
        """`none` while the database is away. Raises: NotFound; ContextTooLong."""
        try:
            found = await self.search(
                tenant_id, store_ids, [question], max_results=max_results, score_threshold=score_threshold
            )
        except ContextTooLong as exc:
            raise ContextTooLong(exc.message, param="messages") from None
        except RetryableError:
            self._found.add(1, "none")
            return Retrieved((), "none")
        return Retrieved(tuple(hit.passage for hit in found.hits), found.mode)

    async def search(
        self,
        tenant_id: TenantId,
        store_ids: Sequence[UUID],
        questions: Sequence[str],
        *,
        max_results: int,
        score_threshold: float = 0.0,
    ) -> Found:
        """Of several questions a passage need answer but one: its score is the best. `score_threshold` is one of
        cosines, so what was found by words is not measured by it.

        Raises: NotFound; ContextTooLong; DatabaseUnavailable.
        """
        wanted = list(dict.fromkeys(store_ids))
        await self._patiently(self._require(tenant_id, wanted), DATABASE_PATIENCE_S)
        # No connection is held while the embedder works.
        vectors = await self._vectors(tenant_id, questions)
        hits = await self._patiently(self._look(tenant_id, wanted, questions, vectors, max_results), SEARCH_PATIENCE_S)
        if vectors is None:
            found = Found(hits, "text")
        else:
            found = Found([hit for hit in hits if hit.passage.score >= score_threshold], "vector")
        self._found.add(1, found.mode)
        return found

    async def _look(
        self, tenant_id: TenantId, store_ids: Sequence[UUID], questions: Sequence[str], vectors: Vectors | None, n: int
    ) -> list[Hit]:
        """By words where there are no vectors."""
        async with self._database.tenant(tenant_id) as session:
            if vectors is None:
                return await store.sharing_words(session, tenant_id, store_ids, words_of(questions), n=n)
            return await store.nearest(session, tenant_id, store_ids, vectors, n=n)

    async def _vectors(self, tenant_id: TenantId, questions: Sequence[str]) -> Vectors | None:
        """None while the embedder is away, or busy."""
        try:
            return await self._known.embedded(tenant_id, questions, self._embed)
        except ContextTooLong as exc:  # it names its own parameter; ours is another
            raise ContextTooLong(exc.message, param="query") from None
        except RetryableError:
            return None

    async def _patiently(self, question: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Raises: DatabaseUnavailable when it takes longer; what the question raises."""
        asking = asyncio.create_task(question, name="retrieval")
        try:
            await asyncio.wait([asking], timeout=timeout_s)
        except asyncio.CancelledError:
            asking.cancel()
            raise
        finally:
            if not asking.done():  # it ends by itself, in the breaker's hearing
                self._left_behind.add(asking)
                asking.add_done_callback(self._forget)
        if not asking.done():
            raise DatabaseUnavailable("the database does not answer: try again")
        return asking.result()

    async def _require(self, tenant_id: TenantId, store_ids: Sequence[UUID]) -> None:
        """Raises: NotFound for a store that is not there, or not the tenant's."""
        async with self._database.tenant(tenant_id) as session:
            if await store.count_stores(session, tenant_id, store_ids) != len(store_ids):
                raise NotFound("no vector store with this id")

    def _forget(self, asked: asyncio.Task[Any]) -> None:
        self._left_behind.discard(asked)
        if not asked.cancelled():
            asked.exception()  # seen: it comes too late for whoever asked
