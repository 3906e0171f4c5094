"""What a kill -9, or a hand in the database, leaves is found again. Also a program that kills itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.database.engine import Database, Role
from app.errors import StorageUnavailable
from app.knowledge.files.objects import ObjectStore
from app.knowledge.files.service import FilesService
from app.knowledge.ingestion.service import LOST_AFTER_S
from app.knowledge.upkeep import Upkeep
from plugins.contract.errors import RetryableError
from plugins.contract.principal import TenantId
from unit.app.knowledge.stores.support import Library, eventually

TESTS = Path(__file__).resolve().parents[1]
Left = tuple[int, int, int]
"""Objects whole or half, rows of files, notes of bytes without a file."""


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> Library:
    return await Library.open(database, tmp_path)


async def left(library: Library, folder: Path) -> Left:
    (counted,) = await library.execute(
        "select (select count(*) from files where tenant_id = :tenant_id),"
        " (select count(*) from loose_objects where tenant_id = :tenant_id)"
    )
    return sum(path.is_file() for path in folder.rglob("*")), int(str(counted[0])), int(str(counted[1]))


async def make_due(library: Library) -> None:
    await library.execute("update loose_objects set due_at = now() where tenant_id = :tenant_id")


@pytest.mark.parametrize(
    ("point", "killed", "swept"),
    [
        ("before the bytes", (0, 0, 1), (0, 0, 0)),
        ("in the middle", (1, 0, 1), (0, 0, 0)),
        ("before the row", (1, 0, 1), (0, 0, 0)),
        ("after the row", (1, 1, 0), (1, 1, 0)),
        ("before the bytes are deleted", (1, 0, 1), (0, 0, 0)),
        ("before the note is deleted", (0, 0, 1), (0, 0, 0)),
    ],
)
async def test_kill_at_any_point_leaves_nothing_half_stored(
    library: Library, database_url: str, tmp_path: Path, point: str, killed: Left, swept: Left
) -> None:
    """An upload or a deletion that is cut off: never a row without bytes, and no bytes without a row after the sweep,
    whether one replica sweeps or two at once.
    """
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, database_url, str(tmp_path), str(library.tenant_id), point),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])},
    )
    assert await program.wait() == -signal.SIGKILL
    assert await left(library, tmp_path) == killed
    await make_due(library)
    replica = FilesService(library.database, ObjectStore(tmp_path), max_file_bytes=1)
    await asyncio.gather(library.files.sweep(), replica.sweep())
    assert await left(library, tmp_path) == swept


async def test_upload_under_way_is_left_alone_until_it_is_due(library: Library, tmp_path: Path) -> None:
    """A sweep in the middle takes nothing; one after the note is due takes the upload's place: it fails, cleanly."""

    async def swept(due: bool) -> AsyncIterator[bytes]:
        yield b"x" * 1000
        if due:
            await make_due(library)
        await library.files.sweep()
        yield b"y"

    async def upload(due: bool) -> None:
        await library.files.upload(
            library.tenant_id, filename="a", content_type=None, purpose="batch", chunks=swept(due)
        )

    await upload(due=False)
    assert await left(library, tmp_path) == (1, 1, 0)
    with pytest.raises(StorageUnavailable, match="24 hours"):
        await upload(due=True)
    assert await left(library, tmp_path) == (1, 1, 0)


async def test_sweep_of_another_database_takes_nothing(library: Library, cluster: object, tmp_path: Path) -> None:
    """It goes by notes, not by what it does not find: a wrong DATABASE_URL costs no bytes."""
    await library.upload("kept")
    empty = Database(pool_size=1)
    await empty.open(await cluster.create_database())  # type: ignore[attr-defined]
    try:
        await FilesService(empty, library.objects, max_file_bytes=1).sweep()
    finally:
        await empty.close()
    assert await left(library, tmp_path) == (1, 1, 0)


async def test_note_about_a_file_that_is_there_costs_no_bytes(library: Library, tmp_path: Path) -> None:
    """A note that a hand or a restored backup brought back: it goes, the file stays."""
    file_id = await library.upload("kept")
    await library.execute("insert into loose_objects values (:tenant_id, :f, now())", f=file_id)
    await library.files.sweep()
    assert await left(library, tmp_path) == (1, 1, 0)


async def test_bytes_of_a_tenant_that_is_gone_are_swept(library: Library, database_url: str, tmp_path: Path) -> None:
    """However the rows go, by cascade or by hand: each leaves its note."""
    for n in range(3):
        await library.upload(f"file {n}")
    await library.execute("delete from tenants where id = :tenant_id")
    assert await left(library, tmp_path) == (3, 0, 3)
    await library.files.sweep()
    assert await left(library, tmp_path) == (0, 0, 0)


async def test_bytes_that_cannot_be_deleted_now_are_deleted_later(library: Library, tmp_path: Path) -> None:
    """The file is deleted for its tenant all the same."""

    class Stuck(ObjectStore):
        async def delete(self, tenant_id: UUID, file_id: UUID) -> None:
            raise StorageUnavailable("stuck")

    file_id = await library.upload("x")
    await FilesService(library.database, Stuck(tmp_path), max_file_bytes=1).delete(library.tenant_id, file_id)
    assert await left(library, tmp_path) == (1, 0, 1)
    await library.files.sweep()
    assert await left(library, tmp_path) == (0, 0, 0)


def jobs(url: str, statement: str = "select 1") -> int:
    """How many jobs there are, after this statement."""
    with psycopg.connect(url) as connection:
        connection.execute("set search_path = jobs")  # its triggers say no schema
        connection.execute(statement.encode())
        (n_jobs,) = connection.execute("select count(*) from jobs.procrastinate_jobs").fetchone() or (0,)
        return int(n_jobs)


@pytest.mark.parametrize(
    "loss", ["delete from jobs.procrastinate_jobs", "update jobs.procrastinate_jobs set status = 'cancelled'"]
)
async def test_file_whose_job_was_lost_is_found_again(library: Library, database_url: str, loss: str) -> None:
    """Deleted or cancelled by hand: after a while there is one job again, however many look, and it does its work."""
    file_id = await library.upload("# A\n\nb")
    store_id = await library.store_of(file_id)
    n_before = jobs(database_url, loss)
    await library.ingestion.find_lost()
    assert jobs(database_url) == n_before, "too early: it may be between two states"
    await age(library)
    await asyncio.gather(library.ingestion.find_lost(), library.ingestion.find_lost())
    assert jobs(database_url) == n_before + 1
    assert (await library.ingest(store_id, file_id)).status == "completed"


async def test_file_that_waits_for_its_job_is_left_alone(library: Library, database_url: str) -> None:
    """A long queue is no loss; nor is a file that is done."""
    await library.filled_store("# A\n\nb")
    waiting = await library.upload("# B\n\nc")
    await library.store_of(waiting)
    n_jobs = jobs(database_url)
    await age(library)
    await library.ingestion.find_lost()
    assert jobs(database_url) == n_jobs


async def age(library: Library) -> None:
    await library.execute(
        "update vector_store_files set updated_at = now() - make_interval(secs => :s) where tenant_id = :tenant_id",
        s=LOST_AFTER_S + 1,
    )


async def test_the_jobs_role_reads_what_it_needs_and_nothing_else(library: Library) -> None:
    """Across tenants: where something is in progress and which bytes are loose; never a name or a text, no change."""
    await library.store_of(await library.upload("x"))
    async with library.database.role(Role.JOBS) as session:
        assert (await session.execute(text("select count(file_id) from vector_store_files"))).scalar_one() == 1
    for forbidden in (
        "select error_message from vector_store_files",
        "select * from files",
        "select * from documents",
        "select * from chunks",
        "delete from loose_objects",
        "update vector_store_files set status = 'failed'",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with library.database.role(Role.JOBS) as session:
                await session.execute(text(forbidden))


async def test_upkeep_does_every_chore_although_one_fails() -> None:
    """At start; a dependency that is away and a bug of ours hold up nothing else, and it ends when it is told to."""
    done: list[str] = []

    async def away() -> None:
        done.append("away")
        raise RetryableError("away")

    async def broken() -> None:
        done.append("broken")
        raise ZeroDivisionError

    async def sound() -> None:
        done.append("sound")

    async def all_done() -> bool:
        return len(done) == 3

    upkeep = Upkeep([away, broken, sound])
    upkeep.start()
    await eventually(all_done, "each was called")
    await upkeep.stop()
    assert done == ["away", "broken", "sound"]


class Suicidal(ObjectStore):
    """Kills its process at one point of an upload or a deletion."""

    def __init__(self, root: Path, point: str) -> None:
        super().__init__(root)
        self._point = point

    def at(self, point: str) -> None:
        if self._point == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def put(self, tenant_id: UUID, file_id: UUID, chunks: AsyncIterable[bytes]) -> None:
        self.at("before the bytes")
        await super().put(tenant_id, file_id, chunks)
        self.at("before the row")

    async def delete(self, tenant_id: UUID, file_id: UUID) -> None:
        self.at("before the bytes are deleted")
        await super().delete(tenant_id, file_id)
        self.at("before the note is deleted")


async def _upload_and_delete(url: str, folder: Path, tenant_id: TenantId, point: str) -> None:
    database, objects = Database(pool_size=1), Suicidal(folder, point)
    await database.open(url)
    files = FilesService(database, objects, max_file_bytes=1 << 30)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(1 << 16)
        while point == "in the middle" and not any("#" in path.name for path in folder.rglob("*")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the store writes in a thread of its own and tells nobody
        objects.at("in the middle")

    made = await files.upload(tenant_id, filename="a", content_type=None, purpose="batch", chunks=chunks())
    objects.at("after the row")
    await files.delete(tenant_id, made.id)


if __name__ == "__main__":
    _url, _folder, _tenant_id, _point = sys.argv[1:]
    asyncio.run(_upload_and_delete(_url, Path(_folder), TenantId(UUID(_tenant_id)), _point))
