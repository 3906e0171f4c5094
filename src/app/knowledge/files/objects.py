"""Where the bytes of files are: an object store, a local directory by default. Keys are made of ids, never of names."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from uuid import UUID

import obstore
from obstore.store import LocalStore

READ_BYTES = 1 << 20
"""A piece of a download: large enough to cost nothing, small enough to hold thousands."""


class ObjectStore:
    """Bytes by tenant and file. A write appears whole or not at all: it is written aside and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store: LocalStore | None = None

    async def put(self, tenant_id: UUID, file_id: UUID, chunks: AsyncIterable[bytes]) -> None:
        await obstore.put_async(self._opened(), _key(tenant_id, file_id), chunks)

    async def chunks(self, tenant_id: UUID, file_id: UUID) -> AsyncIterator[bytes]:
        """Raises: FileNotFoundError before the first piece."""
        found = await obstore.get_async(self._opened(), _key(tenant_id, file_id))
        async for piece in found.stream(min_chunk_size=READ_BYTES):
            yield bytes(piece)

    async def delete(self, tenant_id: UUID, file_id: UUID) -> None:
        """Also when it is not there."""
        try:
            await obstore.delete_async(self._opened(), _key(tenant_id, file_id))
        except FileNotFoundError:
            return

    def path(self, tenant_id: UUID, file_id: UUID) -> Path:
        """For the parser's process, which reads it by itself."""
        return self._root / _key(tenant_id, file_id)

    def _opened(self) -> LocalStore:
        if self._store is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(prefix=self._root)
        return self._store


def _key(tenant_id: UUID, file_id: UUID) -> str:
    return f"{tenant_id.hex}/{file_id.hex}"
