"""A file becomes passages: read and cut → embed in batches → store. Done at least once: every step can be repeated.

Readers see a document only when all of it is there: a search asks for the status `completed`. A run that was cut short
is taken up where it was: the passages that are stored already are not embedded again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.engine import Database, Role
from app.errors import NotFound
from app.grounding import Embedder
from app.jobs.queue import enqueue
from app.knowledge.files.objects import ObjectStore
from app.knowledge.ingestion import store
from app.knowledge.ingestion.errors import DocumentError
from app.knowledge.ingestion.model import Chunk, CutDocument
from app.knowledge.ingestion.parse_process import ParseLimits, parse_in_process
from app.knowledge.ingestion.store import Pending, Place
from app.knowledge.stores.model import INGEST, INGEST_LOCK, ingest_job
from plugins.contract.errors import RetryableError, WattosError

logger = logging.getLogger("ingestion")

LOST_AFTER_S = 600.0
"""A file in progress without a job can only be one whose job was deleted by hand: nothing is in a hurry."""

FOUND_AT_ONCE = 1000
"""Lost files that one look takes up; the next goes on."""

BATCH = 8
"""Passages between two looks at the progress: about 1.6 s of embedding on two cores."""


class IngestionService:
    """Does the job `ingest`."""

    def __init__(
        self, database: Database, objects: ObjectStore, embedder: Embedder, limits: ParseLimits | None = None
    ) -> None:
        self._database = database
        self._objects = objects
        self._embedder = embedder
        self._limits = limits or ParseLimits()

    async def ingest(self, args: Mapping[str, str]) -> None:
        """Raises: RetryableError to be called again. Every other failure is written down, and ends the job."""
        place = Place(**{name: UUID(args[name]) for name in ("tenant_id", "store_id", "file_id")})
        async with self._database.tenant(place.tenant_id) as session:
            file = await store.pending(session, place)
        if file is None:
            return
        try:
            await self._ingest(place, file)
        except RetryableError:
            raise
        except NotFound:
            logger.info("a file or its store was deleted while it was ingested")
        except DocumentError as exc:
            await self._fail(place, exc.code, exc.message)
        except Exception:  # a bug must not leave the file in progress for ever
            logger.exception("ingestion failed")
            await self._fail(place, WattosError.code, "the file could not be ingested: an internal error")

    async def find_lost(self) -> None:
        """Enqueue again what is in progress and has no job. Any number of processes may do so.

        Raises: RetryableError from the database.
        """
        async with self._database.role(Role.JOBS) as session:
            lost = await store.places_without_job(session, INGEST, idle_s=LOST_AFTER_S, limit=FOUND_AT_ONCE)
        for place in lost:
            async with self._database.tenant(place.tenant_id) as session:
                if await store.restart(session, place, idle_s=LOST_AFTER_S):
                    job = ingest_job(place.tenant_id, place.store_id, place.file_id)
                    await enqueue(session, INGEST, [job], lock_on=INGEST_LOCK)
                    logger.warning("file %s was in progress without a job: it is ingested again", place.file_id)

    async def _ingest(self, place: Place, file: Pending) -> None:
        await self._advance(place, stage="parsing")
        document = await self._parse(place, file)
        chunks = document.chunks
        n_done = await self._begin_embedding(place, document)
        for begin in range(n_done, len(chunks), BATCH):
            await self._embed(place, chunks[begin : begin + BATCH])
        await self._complete(place, chunks)

    async def _begin_embedding(self, place: Place, document: CutDocument) -> int:
        """Returns: how many of the first passages are embedded already."""
        async with self._database.tenant(place.tenant_id) as session:
            # First of all: this holds the row, so that no other run of the same job can complete it meanwhile.
            await _advance_in(session, place, stage="embedding", n_total=len(document.chunks))
            if await store.save_document(session, place, document):
                await self._repeat_elsewhere(session, place)
            n_done = await store.keep_chunks(session, place, document.chunks)
            await _advance_in(session, place, n_done=n_done)
        return n_done

    async def _repeat_elsewhere(self, session: AsyncSession, place: Place) -> None:
        """Offsets refer to the stored text: where a newer parser reads it differently, all stores must follow."""
        others = await store.reopen_elsewhere(session, place)
        jobs = [ingest_job(place.tenant_id, store_id, place.file_id) for store_id in others]
        await enqueue(session, INGEST, jobs, lock_on=INGEST_LOCK)

    async def _embed(self, place: Place, batch: Sequence[Chunk]) -> None:
        vectors = await self._embedder.embed([c.embedding_text() for c in batch], "passage")
        try:
            async with self._database.tenant(place.tenant_id) as session:
                await _advance_in(session, place, n_done=batch[-1].ordinal + 1)
                await store.insert_chunks(session, place, batch, vectors)
        except IntegrityError:
            # The row is held, so it can only be that another run of this job, thought dead, wrote these passages.
            raise RetryableError("two workers had the same job") from None

    async def _complete(self, place: Place, chunks: Sequence[Chunk]) -> None:
        n_bytes = await asyncio.to_thread(lambda: sum(len(c.text.encode()) for c in chunks))
        async with self._database.tenant(place.tenant_id) as session:
            await _advance_in(session, place, status="completed", stage="done", n_bytes=n_bytes)
            if await store.count_chunks(session, place) != len(chunks):
                # Taken out of the store and put in again meanwhile: what was written before is gone.
                raise RetryableError("passages are missing")

    async def _parse(self, place: Place, file: Pending) -> CutDocument:
        path = self._objects.path(place.tenant_id, place.file_id)
        on_read = functools.partial(self._advance, place, stage="chunking")
        try:
            return await parse_in_process(path, file.filename, file.content_type, limits=self._limits, on_read=on_read)
        except FileNotFoundError:
            raise NotFound("the file's bytes are gone") from None

    async def _advance(self, place: Place, **values: object) -> None:
        async with self._database.tenant(place.tenant_id) as session:
            await _advance_in(session, place, **values)

    async def _fail(self, place: Place, code: str, message: str) -> None:
        async with self._database.tenant(place.tenant_id) as session:
            await store.advance(session, place, status="failed", error_code=code, error_message=message)


async def _advance_in(session: AsyncSession, place: Place, **values: object) -> None:
    """Raises: NotFound when the file is no longer in progress here: deleted, or completed by another run."""
    if not await store.advance(session, place, **values):
        raise NotFound("the file is no longer in the store")
