"""The rules of files: bytes first and the row second, so that a crash never leaves a row without bytes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator
from uuid import UUID

from app.database.engine import Database
from app.errors import BodyTooLarge, InvalidRequest, NotFound
from app.http.pages import PageRequest, Rows
from app.ids import new_id
from app.knowledge.files import store
from app.knowledge.files.model import Purpose, StoredFile
from app.knowledge.files.objects import ObjectStore
from plugins.contract.principal import TenantId

MAX_NAME_CHARS = 255
"""What file systems and clients take."""


class FilesService:
    """Uploads, finds and deletes a tenant's files."""

    def __init__(self, database: Database, objects: ObjectStore, *, max_file_bytes: int) -> None:
        self._database = database
        self._objects = objects
        self._max_file_bytes = max_file_bytes

    async def upload(
        self,
        tenant_id: TenantId,
        *,
        filename: str,
        content_type: str | None,
        purpose: Purpose,
        chunks: AsyncIterable[bytes],
    ) -> StoredFile:
        """Raises: InvalidRequest (`empty_file`), BodyTooLarge. On any failure nothing is left behind."""
        file_id = new_id()
        digest = hashlib.sha256()
        n_bytes = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal n_bytes
            async for chunk in chunks:
                n_bytes += len(chunk)
                if n_bytes > self._max_file_bytes:
                    raise BodyTooLarge(f"the file is over {self._max_file_bytes} bytes (MAX_FILE_BYTES)")
                digest.update(chunk)
                yield chunk

        try:
            await self._put(tenant_id, file_id, counted())
            if n_bytes == 0:
                raise InvalidRequest("the file is empty", param="file", code="empty_file")
            async with self._database.tenant(tenant_id) as session:
                return await store.insert_file(
                    session,
                    tenant_id,
                    id=file_id,
                    filename=safe_name(filename),
                    purpose=purpose,
                    content_type=content_type,
                    n_bytes=n_bytes,
                    sha256=digest.digest(),
                )
        except BaseException:
            await self._objects.delete(tenant_id, file_id)
            raise

    async def _put(self, tenant_id: TenantId, file_id: UUID, chunks: AsyncIterator[bytes]) -> None:
        """The object store wraps what its source raises: our own errors are kept aside and raised as they were."""
        failure: BodyTooLarge | None = None

        async def watched() -> AsyncIterator[bytes]:
            nonlocal failure
            try:
                async for chunk in chunks:
                    yield chunk
            except BodyTooLarge as exc:
                failure = exc
                raise

        try:
            await self._objects.put(tenant_id, file_id, watched())
        except Exception:
            if failure is not None:
                raise failure from None
            raise

    async def get(self, tenant_id: TenantId, file_id: UUID) -> StoredFile:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            found = await store.file_by_id(session, tenant_id, file_id)
        if found is None:
            raise NotFound("no file with this id")
        return found

    async def content(self, tenant_id: TenantId, file_id: UUID) -> tuple[StoredFile, AsyncIterator[bytes]]:
        """Raises: NotFound."""
        return await self.get(tenant_id, file_id), self._objects.chunks(tenant_id, file_id)

    async def list(self, tenant_id: TenantId, wanted: PageRequest, *, purpose: str | None) -> Rows[StoredFile]:
        async with self._database.tenant(tenant_id) as session:
            return await store.list_files(session, tenant_id, wanted, purpose)

    async def delete(self, tenant_id: TenantId, file_id: UUID) -> None:
        """The row first: a crash in between leaves bytes that nobody can reach. Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            if not await store.delete_file(session, tenant_id, file_id):
                raise NotFound("no file with this id")
        await self._objects.delete(tenant_id, file_id)


def safe_name(given: str) -> str:
    """A base name without control characters, at most 255 of them: it is shown and quoted, never used as a path."""
    base = re.split(r"[/\\]", given)[-1]
    clean = "".join(c for c in unicodedata.normalize("NFC", base) if unicodedata.category(c)[0] != "C").strip()
    return clean[:MAX_NAME_CHARS] or "unnamed"
