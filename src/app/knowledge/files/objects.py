"""Where the bytes of files are: an object store, a local directory by default. Keys are made of ids, never of names."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import obstore
from obstore.store import LocalStore

if TYPE_CHECKING:
    from obstore import GetResult  # in its stubs alone

READ_BYTES = 1 << 20
"""A piece of a download: large enough to cost nothing, small enough to hold thousands."""

PART_BYTES = 5 << 20
"""What is written at once: the least that S3 takes. An upload holds up to three of them: one fills, two are written."""

UNFINISHED_AFTER_S = 3600.0
"""A write that nobody went on with for so long is a killed process's: uploads never pause like that."""


class ObjectStore:
    """Bytes by tenant and file. A write appears whole or not at all: it is written aside and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store: LocalStore | None = None
        self._cleared_at_s: float | None = None

    async def put(self, tenant_id: UUID, file_id: UUID, chunks: AsyncIterable[bytes]) -> None:
        """On the disk when it returns, as PostgreSQL's rows are. Raises: what `chunks` raises; nothing appears then."""
        store, key = self._opened(), _key(tenant_id, file_id)
        await self._clear_unfinished()
        async with obstore.open_writer_async(store, key, buffer_size=PART_BYTES, max_concurrency=2) as file:
            async for chunk in chunks:
                await file.write(chunk)
        await asyncio.to_thread(_sync, self._root / key)

    async def open(self, tenant_id: UUID, file_id: UUID) -> AsyncIterator[bytes]:
        """Its bytes, in pieces. Raises: FileNotFoundError, here and not at the first piece."""
        return _pieces(await obstore.get_async(self._opened(), _key(tenant_id, file_id)))

    async def delete(self, tenant_id: UUID, file_id: UUID) -> None:
        """Also when it is not there."""
        with suppress(FileNotFoundError):
            await obstore.delete_async(self._opened(), _key(tenant_id, file_id))

    def path(self, tenant_id: UUID, file_id: UUID) -> Path:
        """For the parser's process, which reads it by itself."""
        return self._root / _key(tenant_id, file_id)

    def _opened(self) -> LocalStore:
        if self._store is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(prefix=self._root)
        return self._store

    async def _clear_unfinished(self) -> None:
        """What a killed process was writing: cleared away by those who write, at most once an hour."""
        now_s = time.monotonic()
        if self._cleared_at_s is None or now_s - self._cleared_at_s > UNFINISHED_AFTER_S:
            self._cleared_at_s = now_s
            await asyncio.to_thread(_clear_unfinished, self._root, before=time.time() - UNFINISHED_AFTER_S)


async def _pieces(found: GetResult) -> AsyncIterator[bytes]:
    async for piece in found.stream(min_chunk_size=READ_BYTES):
        yield bytes(piece)


def _key(tenant_id: UUID, file_id: UUID) -> str:
    return f"{tenant_id.hex}/{file_id.hex}"


def _clear_unfinished(root: Path, *, before: float) -> None:
    """`before`: epoch seconds. The store writes `<key>` aside as `<key>#<number>`."""
    for path in root.glob("*/*#*"):
        with suppress(FileNotFoundError):  # another process clears too
            if path.stat().st_mtime < before:
                path.unlink()


def _sync(path: Path) -> None:
    """The file, its name and its tenant's directory: a power cut must not leave a row without bytes."""
    for place in (path, path.parent, path.parent.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
