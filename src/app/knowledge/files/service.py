"""The rules of files: bytes first and the row second, so that a crash never leaves a row without bytes.

Nor does it leave bytes without a row for good: while there are some, a note in the database says so, and `sweep` goes
by these notes alone. It never asks which bytes to keep: pointed at the wrong database, it would take everything.
"""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Callable
from uuid import UUID

from app.audit.model import Actor, Change
from app.audit.record import record
from app.database.engine import Database, Role
from app.database.paging import PageRequest, Rows
from app.errors import BodyTooLarge, InvalidRequest, NotFound, StorageUnavailable
from app.ids import new_id
from app.knowledge.files import store
from app.knowledge.files.model import Purpose, StoredFile
from app.knowledge.files.objects import ObjectStore
from plugins.contract.errors import RetryableError
from plugins.contract.principal import TenantId

logger = logging.getLogger("files")

MAX_NAME_CHARS = 255
"""What file systems and clients take."""

MAX_SUFFIX_CHARS = 16
"""A longer one is no kind of file, but the end of a sentence."""

UPLOAD_S = 24 * 3600.0
"""What an upload may take; bytes that have no file by then are a killed process's. 512 MB at 50 kbit/s."""

SWEPT_AT_ONCE = 1000
"""Notes that one sweep works off; the next goes on."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)
"""RFC 6838, 4.2."""


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
        purpose: Purpose | Callable[[], Purpose],
        chunks: AsyncIterable[bytes],
        actor: Actor | None = None,
    ) -> StoredFile:
        """`purpose` may be what tells it once `chunks` have been read: a form may name it after the file.

        Raises: InvalidRequest (`empty_file`), BodyTooLarge, StorageFull, StorageUnavailable, and what `chunks` and
        `purpose` raise. Nothing stays then.
        """
        file_id = new_id()
        intake = _Intake(chunks, max_bytes=self._max_file_bytes)
        is_inserted = False
        async with self._database.tenant(tenant_id) as session:
            await store.loosen(session, tenant_id, file_id, for_s=UPLOAD_S)
        try:
            await self._objects.put(tenant_id, file_id, intake)
            stated = purpose() if callable(purpose) else purpose
            async with self._database.tenant(tenant_id) as session:
                if not await store.settle(session, tenant_id, file_id):
                    raise StorageUnavailable(f"the upload took longer than {UPLOAD_S / 3600:.0f} hours")
                stored = await store.insert_file(
                    session,
                    tenant_id,
                    id=file_id,
                    filename=safe_name(filename),
                    purpose=stated,
                    content_type=safe_type(content_type),
                    n_bytes=intake.n_bytes,
                    sha256=intake.digest.digest(),
                )
                after = {"purpose": stated, "n_bytes": intake.n_bytes}
                created = Change(action="file.created", kind="file", id=file_id, after=after)
                await record(session, tenant_id, actor, created)
                is_inserted = True
        except BaseException:
            # Past the insert, it may only be the commit's answer that was lost: then the row is there, and needs them.
            if not is_inserted:
                await self._remove_bytes(tenant_id, file_id)
            raise
        return stored

    async def get(self, tenant_id: TenantId, file_id: UUID) -> StoredFile:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            found = await store.file_by_id(session, tenant_id, file_id)
        if found is None:
            raise NotFound("no file with this id")
        return found

    async def content(self, tenant_id: TenantId, file_id: UUID) -> tuple[StoredFile, AsyncIterator[bytes]]:
        """Raises: NotFound."""
        file = await self.get(tenant_id, file_id)
        try:
            return file, await self._objects.open(tenant_id, file_id)
        except FileNotFoundError:
            logger.warning("the bytes of file %s are not there: just deleted, or lost", file_id)
            raise NotFound("no file with this id") from None

    async def list(self, tenant_id: TenantId, wanted: PageRequest, *, purpose: str | None) -> Rows[StoredFile]:
        async with self._database.tenant(tenant_id) as session:
            return await store.list_files(session, tenant_id, wanted, purpose)

    async def delete(self, tenant_id: TenantId, file_id: UUID, *, actor: Actor | None = None) -> None:
        """The row first, whose bytes are loose from then on: a crash in between leaves them to the sweep.

        Raises: NotFound.
        """
        async with self._database.tenant(tenant_id) as session:
            if not await store.delete_file(session, tenant_id, file_id):
                raise NotFound("no file with this id")
            await record(session, tenant_id, actor, Change(action="file.deleted", kind="file", id=file_id))
        await self._remove_bytes(tenant_id, file_id)

    async def sweep(self) -> None:
        """Remove the bytes of interrupted uploads and deletions, of all tenants. Any number of processes may do so.

        Raises: StorageUnavailable, RetryableError from the database.
        """
        async with self._database.role(Role.JOBS) as session:
            due = await store.due_objects(session, SWEPT_AT_ONCE)
        for tenant_id, file_id in due:
            async with self._database.tenant(tenant_id) as session:
                # Its row is held until the bytes are gone: an upload that ends at this moment finds its note taken.
                if not await store.settle(session, tenant_id, file_id, only_due=True):
                    continue
                if await store.file_by_id(session, tenant_id, file_id) is None:
                    await self._objects.delete(tenant_id, file_id)
                    logger.info("the bytes of file %s, left by an interrupted upload or deletion, are removed", file_id)

    async def _remove_bytes(self, tenant_id: TenantId, file_id: UUID) -> None:
        """What cannot be removed now, the sweep will."""
        try:
            await self._objects.delete(tenant_id, file_id)
            async with self._database.tenant(tenant_id) as session:
                await store.settle(session, tenant_id, file_id)
        except RetryableError as exc:
            logger.warning("the bytes of file %s could not be removed yet: %s", file_id, exc.code)


class _Intake:
    """Counts and hashes what passes through. Raises: BodyTooLarge in the middle, InvalidRequest at an empty end."""

    def __init__(self, chunks: AsyncIterable[bytes], *, max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self.n_bytes = 0
        self.digest = hashlib.sha256()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.n_bytes += len(chunk)
            if self.n_bytes > self._max_bytes:
                raise BodyTooLarge(f"the file is over {self._max_bytes} bytes (MAX_FILE_BYTES)")
            self.digest.update(chunk)
            yield chunk
        if self.n_bytes == 0:
            raise InvalidRequest("the file is empty", param="file", code="empty_file")


def safe_name(given: str) -> str:
    """A base name without control characters, at most 255 of them: it is shown and quoted, never used as a path.

    Its end stays when it is cut: it says what kind of file it is.
    """
    base = re.split(r"[/\\]", given)[-1]
    clean = "".join(c for c in unicodedata.normalize("NFC", base) if unicodedata.category(c)[0] != "C").strip()
    if not clean.strip("."):
        return "unnamed"
    stem, dot, suffix = clean.rpartition(".")
    if dot and len(suffix) <= MAX_SUFFIX_CHARS:
        return stem[: MAX_NAME_CHARS - len(suffix) - 1] + dot + suffix
    return clean[:MAX_NAME_CHARS]


def safe_type(given: str | None) -> str | None:
    """`type/subtype`, or None where that is not what it is."""
    return given if given and _MEDIA_TYPE.fullmatch(given) else None
