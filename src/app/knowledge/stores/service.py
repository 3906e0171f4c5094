"""The rules of vector stores. Adding a file enqueues its ingestion in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.model import Action, Actor, Change
from app.audit.record import record
from app.database.engine import Database
from app.database.paging import PageRequest, Rows
from app.errors import InvalidRequest, NotFound
from app.ids import encode_id, new_id
from app.jobs.queue import enqueue
from app.knowledge.stores import store
from app.knowledge.stores.model import INGEST, INGEST_LOCK, FileStatus, StoreFile, VectorStore, ingest_job
from plugins.contract.principal import TenantId

Attributes = Mapping[str, str | float | bool]


class VectorStoresService:
    """Makes, fills and empties a tenant's vector stores."""

    def __init__(self, database: Database, *, embedding_model: str) -> None:
        self._database = database
        self._embedding_model = embedding_model

    async def create(
        self,
        tenant_id: TenantId,
        *,
        name: str,
        metadata: Mapping[str, str],
        file_ids: Sequence[UUID],
        embedding_model: str | None = None,
        actor: Actor | None = None,
    ) -> VectorStore:
        """`embedding_model` None: the one that is there. Raises: NotFound for a file that is not there, InvalidRequest
        for another model; then no store is made either.
        """
        if embedding_model not in {None, self._embedding_model}:
            raise InvalidRequest(
                f"documents are embedded by {self._embedding_model!r} alone",
                param="embedding_model",
                code="wrong_model_kind",
            )
        store_id = new_id()
        async with self._database.tenant(tenant_id) as session:
            await store.insert_store(
                session,
                tenant_id,
                id=store_id,
                name=name,
                metadata=metadata,
                embedding_model=self._embedding_model,
            )
            await self._add(session, tenant_id, store_id, file_ids, {})
            after = {"label": name, "files": [encode_id("file", file_id) for file_id in file_ids]}
            await record(session, tenant_id, actor, _change("vector_store.created", store_id, after=after))
            return await self._store(session, tenant_id, store_id)

    async def get(self, tenant_id: TenantId, store_id: UUID) -> VectorStore:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            return await self._store(session, tenant_id, store_id)

    async def list(self, tenant_id: TenantId, wanted: PageRequest) -> Rows[VectorStore]:
        async with self._database.tenant(tenant_id) as session:
            return await store.list_stores(session, tenant_id, wanted)

    async def update(
        self,
        tenant_id: TenantId,
        store_id: UUID,
        *,
        name: str | None,
        metadata: Mapping[str, str] | None,
        actor: Actor | None = None,
    ) -> VectorStore:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            before = _shown(await self._store(session, tenant_id, store_id))
            await store.update_store(session, tenant_id, store_id, name=name, metadata=metadata)
            updated = await self._store(session, tenant_id, store_id)
            change = _change("vector_store.updated", store_id, before=before, after=_shown(updated))
            await record(session, tenant_id, actor, change)
            return updated

    async def delete(self, tenant_id: TenantId, store_id: UUID, *, actor: Actor | None = None) -> None:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            if not await store.delete_store(session, tenant_id, store_id):
                raise _no_store()
            await record(session, tenant_id, actor, _change("vector_store.deleted", store_id))

    async def add_file(
        self,
        tenant_id: TenantId,
        store_id: UUID,
        file_id: UUID,
        attributes: Attributes,
        *,
        actor: Actor | None = None,
    ) -> StoreFile:
        """Adding a file again is no error; one that failed is tried anew. Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            await self._store(session, tenant_id, store_id)
            await self._add(session, tenant_id, store_id, [file_id], attributes)
            added = _change("vector_store.file_added", store_id, after={"file": encode_id("file", file_id)})
            await record(session, tenant_id, actor, added)
            return await self._file(session, tenant_id, store_id, file_id)

    async def get_file(self, tenant_id: TenantId, store_id: UUID, file_id: UUID) -> StoreFile:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            return await self._file(session, tenant_id, store_id, file_id)

    async def list_files(
        self, tenant_id: TenantId, store_id: UUID, wanted: PageRequest, *, status: FileStatus | None
    ) -> Rows[StoreFile]:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            await self._store(session, tenant_id, store_id)
            return await store.list_files(session, tenant_id, store_id, wanted, status)

    async def file_text(self, tenant_id: TenantId, store_id: UUID, file_id: UUID) -> str:
        """The stored text that citations refer to. Raises: NotFound, InvalidRequest while it is not there yet."""
        async with self._database.tenant(tenant_id) as session:
            await self._file(session, tenant_id, store_id, file_id)
            text = await store.document_text(session, tenant_id, file_id)
        if text is None:
            raise InvalidRequest("the file has no text yet: it is not ingested, or failed", code="not_ingested")
        return text

    async def remove_file(
        self, tenant_id: TenantId, store_id: UUID, file_id: UUID, *, actor: Actor | None = None
    ) -> None:
        """Raises: NotFound."""
        async with self._database.tenant(tenant_id) as session:
            if not await store.remove_file(session, tenant_id, store_id, file_id):
                raise _no_file()
            removed = _change("vector_store.file_removed", store_id, before={"file": encode_id("file", file_id)})
            await record(session, tenant_id, actor, removed)

    async def _add(
        self,
        session: AsyncSession,
        tenant_id: TenantId,
        store_id: UUID,
        file_ids: Sequence[UUID],
        attributes: Attributes,
    ) -> None:
        if not file_ids:
            return
        missing = set(file_ids) - await store.existing_files(session, tenant_id, file_ids)
        if missing:
            raise NotFound(f"no file {encode_id('file', min(missing))}")
        try:
            due = await store.add_files(session, tenant_id, store_id, list(dict.fromkeys(file_ids)), attributes)
        except IntegrityError:  # deleted since it was looked for
            raise NotFound("no such file, or no such vector store") from None
        jobs = [ingest_job(tenant_id, store_id, file_id) for file_id in due]
        await enqueue(session, INGEST, jobs, lock_on=INGEST_LOCK)

    async def _store(self, session: AsyncSession, tenant_id: TenantId, store_id: UUID) -> VectorStore:
        found = await store.store_by_id(session, tenant_id, store_id)
        if found is None:
            raise _no_store()
        return found

    async def _file(self, session: AsyncSession, tenant_id: TenantId, store_id: UUID, file_id: UUID) -> StoreFile:
        found = await store.file_in_store(session, tenant_id, store_id, file_id)
        if found is None:
            raise _no_file()
        return found


def _change(
    action: Action, store_id: UUID, *, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None
) -> Change:
    return Change(action=action, kind="vector_store", id=store_id, before=before or {}, after=after or {})


def _shown(store: VectorStore) -> dict[str, Any]:
    return {"label": store.name, "metadata": dict(store.metadata)}


def _no_store() -> NotFound:
    return NotFound("no vector store with this id")


def _no_file() -> NotFound:
    return NotFound("no such file in this vector store")
