"""Where the bytes of files are: an object store, a local directory by default. Keys are made of ids, never of names."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import obstore
import obstore.exceptions
from obstore.store import LocalStore

from app.errors import StorageFull, StorageUnavailable

if TYPE_CHECKING:
    from obstore import GetResult  # in its stubs alone

READ_BYTES = 1 << 20
"""A piece of a download: large enough to cost nothing, small enough to hold thousands."""

PART_BYTES = 5 << 20
"""What is written at once: the least that S3 takes. An upload holds up to three of them: one fills, two are written."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room on the disk, for this user, or under this process's own limit."""

_ERRNO = re.compile(r"\(os error (\d+)\)")
"""How obstore's errors tell the operating system's."""


class ObjectStore:
    """Bytes by tenant and file. A write appears whole or not at all: it is written aside and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store: LocalStore | None = None

    async def put(self, tenant_id: UUID, file_id: UUID, chunks: AsyncIterable[bytes]) -> None:
        """On the disk when it returns, as PostgreSQL's rows are.

        Raises: StorageFull, StorageUnavailable, and what `chunks` raises; nothing appears then.
        """
        key = _key(tenant_id, file_id)
        with _named_errors():
            async with obstore.open_writer_async(
                self._opened(), key, buffer_size=PART_BYTES, max_concurrency=2
            ) as file:
                async for chunk in chunks:
                    await file.write(chunk)
            await asyncio.to_thread(_sync, self._root / key)

    async def open(self, tenant_id: UUID, file_id: UUID) -> AsyncIterator[bytes]:
        """Its bytes, in pieces. Raises: FileNotFoundError, StorageUnavailable; here and not at the first piece."""
        with _named_errors():
            return _pieces(await obstore.get_async(self._opened(), _key(tenant_id, file_id)))

    async def delete(self, tenant_id: UUID, file_id: UUID) -> None:
        """With what a killed process wrote of it; also when it is not there. Raises: StorageUnavailable."""
        with _named_errors():
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._opened(), _key(tenant_id, file_id))
            await asyncio.to_thread(_delete_unfinished, self.path(tenant_id, file_id))

    def path(self, tenant_id: UUID, file_id: UUID) -> Path:
        """For the parser's process, which reads it by itself."""
        return self._root / _key(tenant_id, file_id)

    def _opened(self) -> LocalStore:
        if self._store is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(prefix=self._root)
        return self._store


async def _pieces(found: GetResult) -> AsyncIterator[bytes]:
    async for piece in found.stream(min_chunk_size=READ_BYTES):
        yield bytes(piece)


def _key(tenant_id: UUID, file_id: UUID) -> str:
    return f"{tenant_id.hex}/{file_id.hex}"


def _delete_unfinished(path: Path) -> None:
    """The store writes `<key>` aside as `<key>#<number>`."""
    for unfinished in path.parent.glob(f"{path.name}#*"):
        unfinished.unlink(missing_ok=True)


@contextmanager
def _named_errors() -> Generator[None]:
    """Raises: StorageFull, StorageUnavailable for what the operating system or the store says; else as it was."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, obstore.exceptions.BaseError) as exc:
        told = _ERRNO.search(str(exc))
        number = int(told[1]) if told else getattr(exc, "errno", None)
        if number in FULL:
            raise StorageFull("there is no room left where files are kept") from exc
        raise StorageUnavailable("files cannot be kept or read at the moment") from exc


def _sync(path: Path) -> None:
    """The file, its name and its tenant's directory: a power cut must not leave a row without bytes."""
    for place in (path, path.parent, path.parent.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
