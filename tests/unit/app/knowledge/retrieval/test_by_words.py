"""Documents searched by their words, while the embedder is away: on a real database, with texts in two languages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest

from app.database.engine import Database
from app.database.errors import DatabaseUnavailable
from app.errors import NotFound
from app.grounding import Passage, Retrieved
from app.ids import new_id
from app.knowledge.answering.extractive import ExtractiveAnswerer
from app.knowledge.retrieval.service import PassageRetriever
from app.knowledge.retrieval.words import MAX_WORDS, Word, words_of
from app.local_models.errors import EmbedderUnavailable
from documents import samples
from plugins.contract.principal import TenantId
from unit.app.knowledge.answering.test_probes import ENGLISH, GERMAN
from unit.app.knowledge.stores.support import Library

PUMP = "Die Pumpe P-17 wird alle sechs Wochen entlüftet."
NOTICE = "Die Kündigungsfrist beträgt drei Monate."
FILTER = "Spare filters are kept in cabinet 12 on the second floor, behind the pump."
YEAR = "In 2012 nothing happened."

pytestmark = pytest.mark.requirement("RES-3")


async def away(texts: Sequence[str], kind: Literal["query", "passage"]) -> Sequence[Sequence[float]]:
    raise EmbedderUnavailable("The embedder is not running.")


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> Library:
    """Filled by an embedder, which is away by the time that somebody searches."""
    opened = await Library.open(database, tmp_path)
    opened.retriever = PassageRetriever(database, away)
    return opened


async def search(library: Library, store_id: UUID, *questions: str, n: int = 10, least: float = 0.0) -> list[str]:
    found = await library.retriever.search(
        library.tenant_id, [store_id], questions, max_results=n, score_threshold=least
    )
    assert found.mode == "text"
    scores = [hit.passage.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    return [hit.passage.text for hit in found.hits]


async def test_passages_that_share_words_are_found(library: Library) -> None:
    """Inflected words, in both languages; those that share most first, those that share nothing never."""
    store_id, _ = await library.filled_store(PUMP, NOTICE, FILTER, YEAR)
    assert (await search(library, store_id, "Wie oft werden Pumpen entlüftet?"))[0] == PUMP
    assert await search(library, store_id, "Which cabinet is the filter kept in?") == [FILTER]
    assert await search(library, store_id, "Where is a pump's filter?") == [FILTER, PUMP]
    assert await search(library, store_id, "Where is a pump's filter?", n=1) == [FILTER]
    assert await search(library, store_id, "Was kostet ein Fahrrad?") == []
    assert await search(library, store_id, "Und was ist das?") == []


async def test_parts_of_compounds_are_found_and_parts_of_numbers_are_not(library: Library) -> None:
    """`Frist` is in `Kündigungsfrist`; `12` is not in `2012`."""
    store_id, _ = await library.filled_store(PUMP, NOTICE, FILTER, YEAR)
    assert await search(library, store_id, "Welche Fristen gibt es?") == [NOTICE]
    assert await search(library, store_id, "12?") == [FILTER]
    assert await search(library, store_id, "P-17") == [PUMP]


async def test_passage_that_answers_one_of_several_questions_is_found(library: Library) -> None:
    """The score is that of the best question; a threshold of cosines does not measure it."""
    store_id, _ = await library.filled_store(PUMP, NOTICE, FILTER)
    assert set(await search(library, store_id, "Pumpe entlüftet", "cabinet", "?", least=1)) == {PUMP, FILTER}


@pytest.mark.requirement("SEC-2")
async def test_another_tenants_passages_are_not_found_by_words(library: Library, tmp_path: Path) -> None:
    """Defects 4, 5: neither by the store's id nor by what stands in it; and deleted ones are gone (18)."""
    theirs, _ = await library.filled_store(PUMP)
    other = await Library.open(library.database, tmp_path / "other")
    own, (file_id,) = await other.filled_store(FILTER)
    other.retriever = PassageRetriever(library.database, away)
    with pytest.raises(NotFound):
        await other.retriever.search(other.tenant_id, [theirs], [PUMP], max_results=5)
    assert await search(other, own, f"{PUMP} filter") == [FILTER]
    await other.files.delete(other.tenant_id, file_id)
    assert await search(other, own, "filter") == []


async def test_nothing_is_searched_without_a_database(database: Database) -> None:
    """A question is told so (`none`), a search fails: it has nothing else to answer."""
    await database.close()
    retriever = PassageRetriever(database, away)
    assert await retriever.retrieve(TenantId(new_id()), [new_id()], "x", max_results=5) == Retrieved((), "none")
    with pytest.raises(DatabaseUnavailable):
        await retriever.search(TenantId(new_id()), [new_id()], ["x"], max_results=5)


@pytest.mark.parametrize(
    ("path", "probes", "n_found", "n_right"),
    [(samples.GERMAN_HANDBOOK, GERMAN, 13, 15), (samples.ENGLISH_HANDBOOK, ENGLISH, 14, 13)],
    ids=["de", "en"],
)
async def test_handbook_answers_by_words(
    library: Library, path: Path, probes: dict[str, str | None], n_found: int, n_right: int
) -> None:
    """Of 15 answers 14 and 15 were among the passages, of 21 probes 17 and 15 answered well when written; by vectors
    20 and 20.
    """
    file_id = await library.upload(path.read_bytes(), path.name)
    store_id = await library.store_of(file_id)
    assert (await library.ingest(store_id, file_id)).status == "completed"
    found, right = [], []
    for question, expected in probes.items():
        retrieved = await library.retriever.retrieve(library.tenant_id, [store_id], question, max_results=8)
        if expected is not None and any(expected in passage.text for passage in retrieved.passages):
            found.append(question)
        answer = await ExtractiveAnswerer(away).answer(question, retrieved.passages, retrieved.mode)
        quotes = " ".join(citation.quote for citation in answer.citations)
        if answer.found == (expected is not None) and (expected or "") in quotes:
            right.append(question)
    assert len(found) >= n_found, sorted(set(probes) - set(found))
    assert len(right) >= n_right, sorted(set(probes) - set(right))


async def test_quotes_are_chosen_by_words_when_the_embedder_goes_in_between() -> None:
    """The passages were found by vectors, and who embeds the statements is away by then: no error."""
    passages = [Passage(file_id="file_1", filename="a.md", text=text, start=0, score=0.9) for text in (NOTICE, PUMP)]
    answer = await ExtractiveAnswerer(away).answer("Wie oft wird die Pumpe entlüftet?", passages)
    assert [citation.quote for citation in answer.citations] == [PUMP]


def test_words_are_cut_where_their_stem_ends() -> None:
    """Letters as they are written, function words left out, the longest first, never too many."""
    assert words_of(["Wie lang sind die Kündigungsfristen von V3?"]) == [
        [Word("kündigungsfrist", is_part=True), Word("v3", is_part=False)]
    ]
    many = words_of([" ".join(f"Wort{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(200))] * 16)
    assert sum(map(len, many)) <= MAX_WORDS
    assert words_of([]) == []
