"""What a search finds, in whose stores, and what it never finds."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from app.database.engine import Database
from app.errors import NotFound
from app.ids import encode_id, new_id
from app.knowledge.retrieval.model import Hit
from unit.app.knowledge.stores.support import Library

PUMP = "The pump P-17 is vented every six weeks."
FILTER = "Spare filters are kept in cabinet twelve on the second floor."
GARDEN = "Roses and tulips grow behind the house."


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> Library:
    return await Library.open(database, tmp_path)


async def search(
    library: Library, store_ids: list[UUID], *questions: str, n: int = 10, least: float = 0.0
) -> list[Hit]:
    found = await library.retriever.search(
        library.tenant_id, store_ids, questions, max_results=n, score_threshold=least
    )
    assert found.mode == "vector"
    return list(found.hits)


def texts(hits: list[Hit]) -> list[str]:
    return [hit.passage.text for hit in hits]


@pytest.mark.requirement("SVC-4")
async def test_nearest_passage_comes_first_with_its_cosine(library: Library) -> None:
    """Best first; an equal text scores 1; the passage names its file and its place in it."""
    store_id, file_ids = await library.filled_store(PUMP, FILTER, GARDEN)
    hits = await search(library, [store_id], PUMP)
    assert hits[0].passage.text == PUMP
    assert hits[0].passage.score == pytest.approx(1, abs=1e-3)  # halfvec keeps 11 bits
    assert (hits[0].passage.file_id, hits[0].passage.start) == (encode_id("file", file_ids[0]), 0)
    scores = [hit.passage.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


async def test_bounds_of_a_search_are_kept(library: Library) -> None:
    """At most so many, none below the threshold."""
    store_id, _ = await library.filled_store(PUMP, FILTER, GARDEN)
    assert len(await search(library, [store_id], PUMP, n=2, least=-1)) == 2
    assert texts(await search(library, [store_id], PUMP, least=0.9)) == [PUMP]


async def test_passage_that_answers_one_of_several_questions_is_found(library: Library) -> None:
    """The score is that of the best question."""
    store_id, _ = await library.filled_store(PUMP, FILTER, GARDEN)
    hits = await search(library, [store_id], GARDEN, FILTER, least=0.9)
    assert set(texts(hits)) == {GARDEN, FILTER}


async def test_same_document_in_two_stores_or_uploaded_twice_is_found_once(library: Library) -> None:
    """Defect 18, no dedupe: the same bytes take one place in the results."""
    first, (file_id, _) = await library.filled_store(PUMP, PUMP)
    second = await library.store_of(file_id)
    await library.ingest(second, file_id)
    hits = await search(library, [first, second, first], PUMP, least=0.9)
    assert texts(hits) == [PUMP]


async def test_attributes_of_the_file_come_with_the_hit(library: Library) -> None:
    """As they were given when the file was added to the store."""
    file_id, store_id = await library.upload(PUMP), await library.store_of()
    attributes: dict[str, str | float | bool] = {"year": 2026, "lang": "en", "draft": False}
    await library.stores.add_file(library.tenant_id, store_id, file_id, attributes)
    await library.ingest(store_id, file_id)
    (hit,) = await search(library, [store_id], PUMP)
    assert hit.attributes == attributes


async def test_deleted_file_leaves_no_passage(library: Library) -> None:
    """Defect 18: neither found nor stored."""
    store_id, (file_id, _) = await library.filled_store(PUMP, FILTER)
    await library.files.delete(library.tenant_id, file_id)
    assert texts(await search(library, [store_id], PUMP, least=-1)) == [FILTER]
    assert await library.chunks(store_id, file_id) == []


@pytest.mark.requirement("SEC-2")
async def test_another_tenants_store_is_as_if_it_were_not_there(library: Library, tmp_path: Path) -> None:
    """Defects 4, 5: the same refusal for a store of somebody else's and for none at all; nothing embedded for it."""
    theirs, _ = await library.filled_store(PUMP)
    other = await Library.open(library.database, tmp_path / "other")
    own, _ = await other.filled_store(GARDEN)
    refusals = []
    for store_ids in ([theirs], [own, theirs], [new_id()]):
        with pytest.raises(NotFound) as refused:
            await search(other, store_ids, PUMP)
        refusals.append(refused.value.message)
    assert len(set(refusals)) == 1
    assert other.embedder.embedded == [GARDEN]
    assert texts(await search(other, [own], PUMP, least=-1)) == [GARDEN]
