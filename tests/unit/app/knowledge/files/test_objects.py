"""Bytes are there whole or not at all, and what a killed process left is cleared away."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.errors import StorageFull, StorageUnavailable
from app.ids import new_id
from app.knowledge.files.objects import PART_BYTES, ObjectStore

TENANT, FILE = new_id(), new_id()
SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, 3 * PART_BYTES + 1]


class Broken(Exception):
    """What goes wrong in the middle."""


async def source(n_bytes: int, end: Exception | asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """`n_bytes` in pieces as a socket gives them; then `end` is raised or waited for."""
    for begin in range(0, n_bytes, 1 << 16):
        yield b"z" * min(1 << 16, n_bytes - begin)
    if isinstance(end, Exception):
        raise end
    if end is not None:
        await end.wait()


def kept(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("n_bytes", SIZES)
async def test_what_was_put_comes_back(tmp_path: Path, n_bytes: int) -> None:
    """At the sizes where parts begin and end; the path is the file itself."""
    objects = ObjectStore(tmp_path / "files")
    await objects.put(TENANT, FILE, source(n_bytes))
    assert b"".join([piece async for piece in await objects.open(TENANT, FILE)]) == b"z" * n_bytes
    assert objects.path(TENANT, FILE).stat().st_size == n_bytes


@pytest.mark.parametrize("n_bytes", SIZES)
async def test_a_source_that_breaks_leaves_nothing(tmp_path: Path, n_bytes: int) -> None:
    """Its error is raised as it was."""
    objects = ObjectStore(tmp_path)
    with pytest.raises(Broken):
        await objects.put(TENANT, FILE, source(n_bytes, Broken()))
    assert kept(tmp_path) == []


@pytest.mark.parametrize("n_bytes", [1, 3 * PART_BYTES])
async def test_a_cancelled_write_leaves_nothing(tmp_path: Path, n_bytes: int) -> None:
    """Neither the object nor what was written aside."""
    objects, never, reached = ObjectStore(tmp_path), asyncio.Event(), asyncio.Event()

    async def watched() -> AsyncIterator[bytes]:
        async for piece in source(n_bytes):
            yield piece
        reached.set()
        await never.wait()

    task = asyncio.create_task(objects.put(TENANT, FILE, watched()))
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while kept(tmp_path):  # noqa: ASYNC110  # the store clears up in a thread of its own and tells nobody
            await asyncio.sleep(0.01)


async def test_what_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """Before the first byte of a response leaves. Deleting it is no error."""
    objects = ObjectStore(tmp_path)
    with pytest.raises(FileNotFoundError):
        await objects.open(TENANT, FILE)
    await objects.delete(TENANT, FILE)


async def test_deleting_takes_what_a_killed_process_wrote_of_it(tmp_path: Path) -> None:
    """What is written aside goes with it; another file's stays."""
    objects = ObjectStore(tmp_path)
    await objects.put(TENANT, FILE, source(1))
    other = new_id()
    for file_id in (FILE, other):
        (tmp_path / TENANT.hex / f"{file_id.hex}#1").write_bytes(b"half")
    await objects.delete(TENANT, FILE)
    assert kept(tmp_path) == [f"{other.hex}#1"]
    await objects.delete(TENANT, other)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("n_bytes", [200_000, 3 * PART_BYTES])
async def test_no_room_is_told_as_such_and_leaves_nothing(tmp_path: Path, n_bytes: int) -> None:
    """Whether one write or many: here the process itself may not write larger files."""
    objects = ObjectStore(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageFull):
            await objects.put(TENANT, FILE, source(n_bytes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept(tmp_path) == []


async def test_a_place_that_cannot_be_written_or_read_is_unavailable(tmp_path: Path) -> None:
    """A file where the tenant's directory should be: neither a bug of ours nor a lost file."""
    objects = ObjectStore(tmp_path)
    (tmp_path / TENANT.hex).write_bytes(b"")
    with pytest.raises(StorageUnavailable) as refused:
        await objects.put(TENANT, FILE, source(1))
    assert not isinstance(refused.value, StorageFull)
    assert str(tmp_path) not in refused.value.message
