"""A question that was asked before is searched for without the embedder, in its own tenant's stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.database.engine import Database
from app.knowledge.retrieval.service import PassageRetriever
from app.response_cache.questions import KnownQuestions
from plugins.cache.memory import MemoryCache
from unit.app.knowledge.stores.support import Library

pytestmark = pytest.mark.requirement("PERF-1")

PUMP = "The pump P-17 is vented every six weeks."


async def test_a_question_is_embedded_once_for_each_tenant(database: Database, tmp_path: Path) -> None:
    """The same passages with the same scores, and no call of the embedder."""
    known = KnownQuestions(MemoryCache(max_bytes=1 << 20, max_entry_bytes=1 << 16), "words")
    one, other = [await Library.open(database, tmp_path / name) for name in ("one", "other")]
    for library in (one, other):
        library.retriever = PassageRetriever(database, library.embedder.embed, known=known)
        store_id, _ = await library.filled_store(PUMP)
        library.embedder.embedded.clear()
        found = [
            await library.retriever.search(library.tenant_id, [store_id], ["When is it vented?"], max_results=3)
            for _ in range(3)
        ]
        assert [it.hits for it in found] == [found[0].hits] * 3
        assert [hit.passage.text for hit in found[0].hits] == [PUMP]
        assert library.embedder.embedded == ["When is it vented?"]
