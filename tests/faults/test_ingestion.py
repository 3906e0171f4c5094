"""Ingestion when things go wrong in the middle: it ends, it says how, and readers never see half a document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from app.database.engine import Database
from app.errors import NotFound
from app.knowledge.ingestion.service import BATCH
from app.knowledge.stores.model import StoreFile
from plugins.contract.errors import RetryableError
from unit.app.knowledge.stores.support import Library, long_document

DOCUMENT = long_document()


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> Library:
    return await Library.open(database, tmp_path)


def fails_after(library: Library, n_batches: int, failure: Exception) -> None:
    """Let the embedder raise at batch `n_batches`, counted from 0."""
    seen = 0

    async def before(_texts: Sequence[str]) -> None:
        nonlocal seen
        seen += 1
        if seen > n_batches:
            raise failure

    library.embedder.before = before


@pytest.mark.requirement("SVC-3")
async def test_progress_is_counted_and_ends_at_the_total(library: Library) -> None:
    """Defect 6: stage and counts are what is stored at that moment; they only grow, and end at the total."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    seen: list[StoreFile] = [await library.state(store_id, file_id)]

    async def look(_texts: Sequence[str]) -> None:
        state = await library.state(store_id, file_id)
        assert state.n_done == len(await library.chunks(store_id, file_id))
        seen.append(state)

    library.embedder.before = look
    seen.append(await library.ingest(store_id, file_id))
    assert [s.stage for s in seen] == ["queued", *["embedding"] * (len(seen) - 2), "done"]
    assert [s.n_done for s in seen[1:-1]] == list(range(0, seen[-1].n_total, BATCH))
    assert seen[-1].status == "completed"
    assert seen[-1].n_done == seen[-1].n_total == len(await library.chunks(store_id, file_id)) > 4 * BATCH


async def test_passages_are_the_stored_text_letter_by_letter(library: Library) -> None:
    """`text == stored_text[start:end]`, and the store's usage is the bytes of these texts."""
    store_id, (file_id,) = await library.filled_store("# Käfer 🐞\n\nDie Pumpe läuft.\n\n# Größe\n\nZwölf Meter.")
    stored = await library.stores.file_text(library.tenant_id, store_id, file_id)
    rows = await library.execute('select text, start, "end" from chunks where tenant_id = :tenant_id')
    assert rows
    assert all(passage == stored[int(str(start)) : int(str(end))] for passage, start, end in rows)
    used = sum(len(str(passage).encode()) for passage, _, _ in rows)
    assert (await library.stores.get(library.tenant_id, store_id)).n_bytes == used


async def test_job_done_twice_changes_nothing(library: Library) -> None:
    """Jobs are done at least once: a completed one that comes again embeds nothing."""
    store_id, (file_id,) = await library.filled_store(DOCUMENT)
    before, n_embedded = await library.chunks(store_id, file_id), len(library.embedder.embedded)
    assert (await library.ingest(store_id, file_id)).status == "completed"
    assert await library.chunks(store_id, file_id) == before
    assert len(library.embedder.embedded) == n_embedded


async def test_interrupted_job_goes_on_where_it_was(library: Library) -> None:
    """An embedder that goes away: the file stays in progress, is not found, and the next run embeds only the rest."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    fails_after(library, 3, RetryableError("the embedder is away"))
    with pytest.raises(RetryableError):
        await library.ingest(store_id, file_id)
    state = await library.state(store_id, file_id)
    assert (state.status, state.stage, state.n_done) == ("in_progress", "embedding", 3 * BATCH)
    found = await library.retriever.retrieve(library.tenant_id, [store_id], "machine 1", max_results=5)
    assert found.passages == ()
    library.embedder.before = None
    done = await library.ingest(store_id, file_id)
    assert (done.status, done.n_done) == ("completed", done.n_total)
    assert len(library.embedder.embedded) == done.n_total + 1  # and the question
    assert [ordinal for ordinal, _ in await library.chunks(store_id, file_id)] == list(range(done.n_total))


async def test_passages_of_another_parse_are_replaced(library: Library) -> None:
    """What an interrupted run of an older release stored is kept only as far as it is the same."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    fails_after(library, 2, RetryableError("away"))
    with pytest.raises(RetryableError):
        await library.ingest(store_id, file_id)
    await library.execute("update chunks set text = 'other' where tenant_id = :tenant_id and ordinal = 3")
    library.embedder.before = None
    done = await library.ingest(store_id, file_id)
    texts = [passage for _, passage in await library.chunks(store_id, file_id)]
    assert len(texts) == done.n_total
    assert "other" not in texts


@pytest.mark.parametrize(
    ("content", "code"), [(b" \n ", "empty_file"), (b"\x89PNG\r\n\x1a\n" + bytes(64), "unsupported_file")]
)
async def test_document_that_cannot_be_read_fails_with_its_code(library: Library, content: bytes, code: str) -> None:
    """No retry, a stable code, a message for the one who uploaded it."""
    file_id = await library.upload(content)
    store_id = await library.store_of(file_id)
    state = await library.ingest(store_id, file_id)
    assert (state.status, state.error_code) == ("failed", code)
    assert state.error_message
    counts = (await library.stores.get(library.tenant_id, store_id)).file_counts
    assert (counts.failed, counts.in_progress, counts.total) == (1, 0, 1)


async def test_bug_ends_as_internal_error_without_details(library: Library) -> None:
    """An unknown exception: the file fails and says nothing of it."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    fails_after(library, 1, ZeroDivisionError("secret detail"))
    state = await library.ingest(store_id, file_id)
    assert (state.status, state.error_code) == ("failed", "internal_error")
    assert "secret" not in str(state.error_message)
    assert "ZeroDivision" not in str(state.error_message)


async def test_failed_file_can_be_added_again(library: Library) -> None:
    """Adding a failed file again ingests it anew, with the new attributes."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    fails_after(library, 1, ZeroDivisionError())
    assert (await library.ingest(store_id, file_id)).status == "failed"
    again = await library.stores.add_file(library.tenant_id, store_id, file_id, {"lang": "en"})
    assert (again.status, again.n_done, again.error_code, again.attributes) == ("in_progress", 0, None, {"lang": "en"})
    library.embedder.before = None
    assert (await library.ingest(store_id, file_id)).status == "completed"


@pytest.mark.parametrize("what", ["file", "store", "place"])
async def test_deletion_in_the_middle_ends_quietly(library: Library, what: str) -> None:
    """Defect 18: file, store or the file's place deleted while it is ingested: no error, and no passage is left."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    delete: Callable[[], Awaitable[None]] = {
        "file": lambda: library.files.delete(library.tenant_id, file_id),
        "store": lambda: library.stores.delete(library.tenant_id, store_id),
        "place": lambda: library.stores.remove_file(library.tenant_id, store_id, file_id),
    }[what]
    n_batches = 0

    async def before(_texts: Sequence[str]) -> None:
        nonlocal n_batches
        n_batches += 1
        if n_batches == 2:
            await delete()

    library.embedder.before = before
    with pytest.raises(NotFound):
        await library.ingest(store_id, file_id)  # the look afterwards finds nothing
    assert n_batches == 2
    assert await library.execute("select count(*) from chunks where tenant_id = :tenant_id") == [(0,)]


async def test_file_taken_out_and_put_in_again_in_the_middle_is_whole_in_the_end(library: Library) -> None:
    """The running job finds that passages are missing, and is done again."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    n_batches = 0

    async def before(_texts: Sequence[str]) -> None:
        nonlocal n_batches
        n_batches += 1
        if n_batches == 3:
            await library.stores.remove_file(library.tenant_id, store_id, file_id)
            await library.stores.add_file(library.tenant_id, store_id, file_id, {})

    library.embedder.before = before
    with pytest.raises(RetryableError):
        await library.ingest(store_id, file_id)
    assert (await library.state(store_id, file_id)).status == "in_progress"
    done = await library.ingest(store_id, file_id)
    assert done.status == "completed"
    assert [ordinal for ordinal, _ in await library.chunks(store_id, file_id)] == list(range(done.n_total))


async def test_second_run_of_the_same_job_does_no_harm(library: Library) -> None:
    """A worker thought dead goes on: whichever run is late stops, and the document is whole, once."""
    file_id = await library.upload(DOCUMENT)
    store_id = await library.store_of(file_id)
    other = Library(library.database, library.objects._root, library.embedder, library.tenant_id)
    n_batches = 0

    async def before(_texts: Sequence[str]) -> None:
        nonlocal n_batches
        n_batches += 1
        if n_batches == 3:
            assert (await other.ingest(store_id, file_id)).status == "completed"

    library.embedder.before = before
    done = await library.ingest(store_id, file_id)
    assert done.status == "completed"
    assert [ordinal for ordinal, _ in await library.chunks(store_id, file_id)] == list(range(done.n_total))


async def test_newer_reading_of_a_file_reaches_all_its_stores(library: Library) -> None:
    """Offsets refer to one stored text a file: when it changes, the stores that hold the old one are done again."""
    old_store, (file_id,) = await library.filled_store(DOCUMENT)
    await library.execute("update documents set text = 'as an older release read it' where tenant_id = :tenant_id")
    new_store = await library.store_of(file_id)
    assert (await library.ingest(new_store, file_id)).status == "completed"
    assert (await library.state(old_store, file_id)).status == "in_progress"
    assert (await library.ingest(old_store, file_id)).status == "completed"
    assert (await library.state(new_store, file_id)).status == "completed"
