"""What holds of every answer, whatever the passages and the embedder are."""

import math
from collections.abc import Sequence
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from app.grounding import Passage
from app.knowledge.answering import scoring
from app.knowledge.answering.extractive import ExtractiveAnswerer


class FakeEmbedder:
    """Unit vectors that are equal, so that everything looks near; remembers what it was asked."""

    def __init__(self, cosine: float) -> None:
        self._cosine = cosine
        self.asked: list[tuple[str, int]] = []

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> Sequence[Sequence[float]]:
        self.asked.append((kind, len(texts)))
        one = [1.0, 0.0] if kind == "query" else [self._cosine, math.sqrt(1 - self._cosine**2)]
        return [one for _ in texts]


def passage(text: str, *, number: int = 1, start: int = 0, heading: str = "") -> Passage:
    return Passage(
        file_id=f"file_{number}", filename=f"{number}.md", text=text, start=start, heading=heading, score=0.85
    )


async def test_nothing_found_without_passages_costs_nothing() -> None:
    """No passage, or none with a statement: not found, and the embedder is not asked."""
    embedder = FakeEmbedder(0.95)
    answer = await ExtractiveAnswerer(embedder.embed).answer("Wie spät ist es?", [])
    assert (answer.found, answer.language, answer.citations) == (False, "de", ())
    assert (await ExtractiveAnswerer(embedder.embed).answer("What?", [passage(" \n ")])).text == (
        "Not found in the documents."
    )
    assert embedder.asked == []


async def test_cost_is_bounded() -> None:
    """One query and a bounded number of short texts, however many sentences there are."""
    embedder = FakeEmbedder(0.95)
    many = [passage("Der Port ist 8443. " * 50, number=n) for n in range(10)]
    await ExtractiveAnswerer(embedder.embed).answer("Welcher Port?", many)
    assert sorted(embedder.asked) == [("passage", scoring.MAX_EMBEDDED), ("query", 1)]


async def test_low_similarity_without_shared_words_is_not_found() -> None:
    """The nearest text there is need not be an answer."""
    embedder = FakeEmbedder(0.78)
    answer = await ExtractiveAnswerer(embedder.embed).answer(
        "What is the capital of France?", [passage("The port is 8443 and nothing else.")]
    )
    assert not answer.found


async def test_offsets_are_those_of_the_stored_document() -> None:
    """`start` of the passage is added; code points are counted, not bytes or UTF-16 units."""
    stored = "𝄞 Vorwort.\n\nÜber den Port: Der Server lauscht auf Port 8443. Mehr nicht."
    start = stored.index("Über")
    answer = await ExtractiveAnswerer(FakeEmbedder(0.93).embed).answer(
        "Auf welchem Port lauscht der Server?", [passage(stored[start:], start=start)]
    )
    citation = answer.citations[0]
    assert stored[citation.start : citation.end] == citation.quote
    assert "8443" in citation.quote
    assert answer.text[citation.index :].startswith("[1]")


async def test_scores_that_are_no_cosines_do_not_decide() -> None:
    """Passages found by text carry scores of another scale."""
    passages = [
        Passage(file_id="a", filename="a", text="Anderes steht hier.", start=0, score=37.2),
        Passage(file_id="b", filename="b", text="Der Server lauscht auf Port 8443.", start=0, score=12.0),
    ]
    answer = await ExtractiveAnswerer(FakeEmbedder(0.9).embed).answer("Auf welchem Port lauscht der Server?", passages)
    assert answer.citations[0].file_id == "b"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(alphabet="aäBc12 .:?|-`\n", max_size=120), max_size=4),
    st.text(alphabet="aäBc12 ?", max_size=30),
    st.sampled_from([0.75, 0.85, 0.95]),
)
async def test_any_answer_quotes_exactly(texts: list[str], question: str, cosine: float) -> None:
    """Every quote is a piece of its passage at its offsets, and stands in the answer before its marker."""
    passages = [passage(text, number=n, start=100 * n, heading="a > B") for n, text in enumerate(texts)]
    answer = await ExtractiveAnswerer(FakeEmbedder(cosine).embed).answer(question, passages)
    assert answer.found == bool(answer.citations)
    for number, citation in enumerate(answer.citations, start=1):
        source = passages[int(citation.file_id.removeprefix("file_"))]
        assert source.text[citation.start - source.start : citation.end - source.start] == citation.quote
        assert citation.number == number
        assert answer.text[: citation.index].endswith(citation.quote + " ")
        assert answer.text[citation.index :].startswith(f"[{number}]")
