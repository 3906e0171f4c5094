"""Making and filling vector stores: all or nothing, with one job for each file that is to be read."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from app.database.engine import Database
from app.database.paging import PageRequest
from app.errors import InvalidRequest, NotFound
from app.ids import new_id
from unit.app.knowledge.stores.support import Library


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> Library:
    return await Library.open(database, tmp_path)


async def jobs(database_url: str) -> list[UUID]:
    """The files that wait for ingestion."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        found = await connection.execute("select args->>'file_id' from jobs.procrastinate_jobs order by id")
        return [UUID(file_id) for (file_id,) in await found.fetchall()]


async def test_store_with_files_has_one_job_for_each(library: Library, database_url: str) -> None:
    """A file named twice is there once; everything is counted as in progress."""
    first, second = await library.upload("one"), await library.upload("two")
    store_id = await library.store_of(first, second, first)
    counts = (await library.stores.get(library.tenant_id, store_id)).file_counts
    assert (counts.in_progress, counts.completed, counts.total) == (2, 0, 2)
    assert sorted(await jobs(database_url)) == sorted([first, second])


async def test_store_with_a_missing_file_is_not_made(library: Library, database_url: str) -> None:
    """All or nothing: no store, no job."""
    present = await library.upload("one")
    with pytest.raises(NotFound):
        await library.store_of(present, new_id())
    assert (await library.stores.list(library.tenant_id, PageRequest())).items == []
    assert await jobs(database_url) == []


async def test_adding_a_file_again_makes_no_second_job(library: Library, database_url: str) -> None:
    """Neither while it waits nor when it is done."""
    file_id = await library.upload("one")
    store_id = await library.store_of(file_id)
    await library.stores.add_file(library.tenant_id, store_id, file_id, {})
    assert (await library.ingest(store_id, file_id)).status == "completed"
    assert (await library.stores.add_file(library.tenant_id, store_id, file_id, {})).status == "completed"
    assert await jobs(database_url) == [file_id]


async def test_unknown_embedding_model_is_refused(library: Library) -> None:
    """Rather than taken for the one that is there."""
    with pytest.raises(InvalidRequest, match="wattos-embed"):
        await library.stores.create(
            library.tenant_id, name="", metadata={}, file_ids=[], embedding_model="text-embedding-3-large"
        )


async def test_file_of_another_tenant_cannot_be_added(library: Library, tmp_path: Path) -> None:
    """Defect 4: it is as if it were not there."""
    theirs = await library.upload("secret")
    other = await Library.open(library.database, tmp_path / "other")
    store_id = await other.store_of()
    with pytest.raises(NotFound):
        await other.stores.add_file(other.tenant_id, store_id, theirs, {})


async def test_deleting_a_store_keeps_its_files(library: Library) -> None:
    """The passages go, the files stay."""
    store_id, (file_id,) = await library.filled_store("one")
    await library.stores.delete(library.tenant_id, store_id)
    with pytest.raises(NotFound):
        await library.stores.get(library.tenant_id, store_id)
    assert await library.chunks(store_id, file_id) == []
    assert (await library.files.get(library.tenant_id, file_id)).id == file_id
