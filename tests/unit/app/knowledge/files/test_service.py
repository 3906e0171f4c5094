"""The rules of files, on a real database and a real directory: never a row without its bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.service import AccountsService
from app.audit.model import COMMAND_LINE
from app.database.engine import Database
from app.database.errors import DatabaseUnavailable
from app.database.paging import PageRequest
from app.errors import BodyTooLarge, InvalidRequest, NotFound
from app.ids import new_id
from app.knowledge.files.model import Purpose, StoredFile
from app.knowledge.files.objects import ObjectStore
from app.knowledge.files.service import FilesService, safe_name, safe_type
from plugins.contract.errors import RetryableError
from plugins.contract.principal import DEFAULT_TENANT_ID, TenantId

MAX_FILE_BYTES = 1000


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "files")


@pytest.fixture
def files(database: Database, objects: ObjectStore) -> FilesService:
    return FilesService(database, objects, max_file_bytes=MAX_FILE_BYTES)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def upload(
    files: FilesService, *data: bytes, tenant_id: UUID = DEFAULT_TENANT_ID, name: str = "a.txt"
) -> StoredFile:
    return await files.upload(
        TenantId(tenant_id), filename=name, content_type="text/plain", purpose="assistants", chunks=pieces(*data)
    )


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


async def is_empty(files: FilesService) -> bool:
    return (await files.list(DEFAULT_TENANT_ID, PageRequest(), purpose=None)).items == []


async def test_size_and_hash_are_those_of_the_bytes(files: FilesService, database: Database) -> None:
    """Counted as they pass, whatever the pieces."""
    stored = await upload(files, b"ab", b"", b"c")
    assert stored.n_bytes == 3
    async with database.tenant(DEFAULT_TENANT_ID) as session:
        row = (await session.execute(text("select sha256, n_bytes from files"))).one()
    assert (bytes(row.sha256), row.n_bytes) == (hashlib.sha256(b"abc").digest(), 3)


async def test_a_file_may_be_as_large_as_the_limit_and_no_larger(files: FilesService, tmp_path: Path) -> None:
    """The limit itself is allowed; one byte more leaves nothing behind."""
    await upload(files, b"x" * MAX_FILE_BYTES)
    before = kept(tmp_path)
    with pytest.raises(BodyTooLarge, match="MAX_FILE_BYTES"):
        await upload(files, b"x" * MAX_FILE_BYTES, b"y")
    assert kept(tmp_path) == before


@pytest.mark.parametrize("data", [[], [b""]])
async def test_an_empty_file_is_refused(files: FilesService, tmp_path: Path, data: list[bytes]) -> None:
    """`empty_file`, and neither bytes nor a row."""
    with pytest.raises(InvalidRequest) as refused:
        await upload(files, *data)
    assert (refused.value.reason, refused.value.param) == ("empty_file", "file")
    assert kept(tmp_path) == []
    assert await is_empty(files)


async def test_a_purpose_that_comes_late_and_wrong_leaves_nothing(files: FilesService, tmp_path: Path) -> None:
    """It is asked for once the bytes were read."""

    def purpose() -> Purpose:
        raise InvalidRequest("purpose?", param="purpose")

    with pytest.raises(InvalidRequest):
        await files.upload(
            DEFAULT_TENANT_ID, filename="a", content_type=None, purpose=purpose, chunks=pieces(b"x" * 10)
        )
    assert kept(tmp_path) == []
    assert await is_empty(files)


async def test_a_row_that_is_refused_takes_the_bytes_with_it(files: FilesService, tmp_path: Path) -> None:
    """Here: a tenant that is not there."""
    with pytest.raises(IntegrityError):
        await upload(files, b"x", tenant_id=new_id())
    assert kept(tmp_path) == []


async def test_a_database_that_is_away_takes_the_bytes_with_it(objects: ObjectStore, tmp_path: Path) -> None:
    """The client is told to try again, and nothing piles up meanwhile."""
    with pytest.raises(RetryableError):
        await upload(FilesService(Database(), objects, max_file_bytes=10), b"x")
    assert kept(tmp_path) == []


async def test_a_lost_answer_to_the_commit_takes_no_bytes_from_a_row(
    database: Database, database_url: str, objects: ObjectStore
) -> None:
    """The client is told that it failed, but the row is there: then so are its bytes."""

    class LosesAnswers(Database):
        n_answers = 1  # to the note that bytes are coming

        @asynccontextmanager
        async def tenant(self, tenant_id: UUID) -> AsyncIterator[AsyncSession]:
            async with super().tenant(tenant_id) as session:
                yield session
            self.n_answers -= 1
            if self.n_answers < 0:
                raise DatabaseUnavailable("the connection was lost")

    lossy = LosesAnswers(pool_size=1)
    await lossy.open(database_url)
    try:
        with pytest.raises(DatabaseUnavailable):
            await upload(FilesService(lossy, objects, max_file_bytes=10), b"x")
    finally:
        await lossy.close()
    files = FilesService(database, objects, max_file_bytes=10)
    (stored,) = (await files.list(DEFAULT_TENANT_ID, PageRequest(), purpose=None)).items
    _, content = await files.content(DEFAULT_TENANT_ID, stored.id)
    assert [piece async for piece in content] == [b"x"]


async def test_an_upload_that_is_cancelled_leaves_nothing(files: FilesService, tmp_path: Path) -> None:
    """A server that stops, in the middle of a file."""
    never, reached = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        reached.set()
        await never.wait()

    task = asyncio.create_task(
        files.upload(DEFAULT_TENANT_ID, filename="a", content_type=None, purpose="batch", chunks=endless())
    )
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kept(tmp_path) == []
    assert await is_empty(files)


async def test_a_deleted_file_is_gone_with_its_bytes_and_its_text(
    files: FilesService, database: Database, tmp_path: Path
) -> None:
    """Rows that hang on it go by cascade."""
    stored = await upload(files, b"x")
    async with database.tenant(DEFAULT_TENANT_ID) as session:
        await session.execute(
            text("insert into documents (tenant_id, file_id, text, n_chars, parser) values (:t, :f, 'x', 1, 'text')"),
            {"t": DEFAULT_TENANT_ID, "f": stored.id},
        )
    await files.delete(DEFAULT_TENANT_ID, stored.id)
    assert kept(tmp_path) == []
    async with database.tenant(DEFAULT_TENANT_ID) as session:
        assert (await session.execute(text("select count(*) from documents"))).scalar_one() == 0
    for asked in (files.get, files.content, files.delete):
        with pytest.raises(NotFound):
            await asked(DEFAULT_TENANT_ID, stored.id)


async def test_another_tenants_file_is_not_there(files: FilesService, database: Database, tmp_path: Path) -> None:
    """For reading, for its bytes, for deletion and in the list."""
    stored = await upload(files, b"secret")
    other = TenantId((await AccountsService(database).create_tenant(COMMAND_LINE, name="b", slug="b")).id)
    for asked in (files.get, files.content, files.delete):
        with pytest.raises(NotFound):
            await asked(other, stored.id)
    assert (await files.list(other, PageRequest(), purpose=None)).items == []
    assert len(kept(tmp_path)) == 1


async def test_lost_bytes_are_told_before_the_answer_begins(
    files: FilesService, objects: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A volume that is not mounted is an error and a line in the log, not half a download."""
    stored = await upload(files, b"x")
    objects.path(DEFAULT_TENANT_ID, stored.id).unlink()
    with pytest.raises(NotFound):
        await files.content(DEFAULT_TENANT_ID, stored.id)
    assert str(stored.id) in caplog.text
    await files.delete(DEFAULT_TENANT_ID, stored.id)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plan.txt", "plan.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\plan.txt", "plan.txt"),
        ("a\r\nset-cookie: x\0.txt", "aset-cookie: x.txt"),
        ("rechnung\u202excod.exe", "rechnungxcod.exe"),
        ("u\u0308ber.md", "über.md"),
        ("  plan.txt  ", "plan.txt"),
        ("\ud800.txt", ".txt"),
        ("x" * 400 + ".txt", "x" * 251 + ".txt"),
        ("x" * 300, "x" * 255),
        ("x." + "y" * 300, "x." + "y" * 253),
        ("", "unnamed"),
        ("dir/", "unnamed"),
        ("..", "unnamed"),
        (".", "unnamed"),
        ("\0", "unnamed"),
        (".env", ".env"),
    ],
)
def test_a_name_is_a_base_name_that_can_be_shown(given: str, expected: str) -> None:
    """No path, no control or direction characters, at most 255, and its end says what it is."""
    assert safe_name(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("text/plain", "text/plain"),
        ("application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("text/\x01", None),
        ("text", None),
        ("", None),
        (None, None),
        ("x" * 200 + "/y", None),
    ],
)
def test_a_type_is_a_media_type_or_nothing(given: str | None, expected: str | None) -> None:
    """What the client says is kept only where it can be one."""
    assert safe_type(given) == expected
