"""A file becomes passages: parse → cut → embed in batches → store. Done at least once, so every step can be repeated.

Readers see a document only when all of it is there: a search asks for the status `completed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.database.engine import Database
from app.errors import NotFound
from app.grounding import Embedder
from app.knowledge.files.objects import ObjectStore
from app.knowledge.ingestion import store
from app.knowledge.ingestion.chunking import chunk
from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parse_process import parse_in_process
from app.knowledge.ingestion.store import Pending, Place
from plugins.contract.errors import RetryableError, WattosError

logger = logging.getLogger("ingestion")

MAX_TOKENS = 300
"""Of a passage; the embedder reads 512. About 200 English or 150 German words: a paragraph or two."""

CHARS_PER_TOKEN = 3
"""A cautious estimate for e5's vocabulary: English has 4.3 and German 3.6 characters a token."""

BATCH = 8
"""Passages between two looks at the progress: about 1.6 s of embedding on two cores."""


class IngestionService:
    """Does the job `ingest`."""

    def __init__(self, database: Database, objects: ObjectStore, embedder: Embedder) -> None:
        self._database = database
        self._objects = objects
        self._embedder = embedder

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
        except WattosError as exc:
            await self._fail(place, exc.code, exc.message)
        except Exception as exc:
            logger.exception("ingestion failed")
            await self._fail(place, "internal_error", f"internal error ({type(exc).__name__})")

    async def _ingest(self, place: Place, file: Pending) -> None:
        await self._advance(place, stage="parsing", n_done=0, n_total=0)
        document = await self._parse(place, file)
        await self._advance(place, stage="chunking")
        chunks = await asyncio.to_thread(chunk, document, max_tokens=MAX_TOKENS, count_tokens=estimated_tokens)
        async with self._database.tenant(place.tenant_id) as session:
            await store.save_document(session, place, document)
            await store.begin_chunks(session, place)
            await store.advance(session, place, stage="embedding", n_total=len(chunks))
        n_done = 0
        for begin in range(0, len(chunks), BATCH):
            batch = chunks[begin : begin + BATCH]
            vectors = await self._embedder.embed([c.embedding_text() for c in batch], "passage")
            n_done += len(batch)
            try:
                async with self._database.tenant(place.tenant_id) as session:
                    if not await store.advance(session, place, n_done=n_done):
                        raise NotFound("the file is no longer in the store")
                    await store.insert_chunks(session, place, batch, vectors)
            except IntegrityError:
                raise NotFound("the file is no longer in the store") from None
        n_bytes = sum(len(c.text.encode()) for c in chunks)
        await self._advance(place, status="completed", stage="done", n_bytes=n_bytes)

    async def _parse(self, place: Place, file: Pending) -> Document:
        path = self._objects.path(place.tenant_id, place.file_id)
        try:
            return await parse_in_process(path, file.filename, file.content_type)
        except FileNotFoundError:
            raise NotFound("the file's bytes are gone") from None

    async def _advance(self, place: Place, **values: object) -> None:
        async with self._database.tenant(place.tenant_id) as session:
            if not await store.advance(session, place, **values):
                raise NotFound("the file is no longer in the store")

    async def _fail(self, place: Place, code: str, message: str) -> None:
        async with self._database.tenant(place.tenant_id) as session:
            await store.advance(session, place, status="failed", error_code=code, error_message=message)


def estimated_tokens(text: str) -> int:
    return len(text) // CHARS_PER_TOKEN + 1
