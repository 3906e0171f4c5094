"""A tenant's knowledge on a real database: services wired as the factory wires them, with an embedder of words."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal
from uuid import UUID

from sqlalchemy import CursorResult, text

from app.database.engine import Database
from app.ids import new_id
from app.knowledge.files.objects import ObjectStore
from app.knowledge.files.service import FilesService
from app.knowledge.ingestion.service import IngestionService
from app.knowledge.retrieval.service import PassageRetriever
from app.knowledge.stores.model import StoreFile, ingest_job
from app.knowledge.stores.service import VectorStoresService
from plugins.contract.principal import TenantId

DEADLINE_S = 30.0
DIMENSIONS = 64


class WordEmbedder:
    """The `Embedder` port without a model: equal texts have equal vectors, texts that share words are near.

    `before` is awaited before each batch: tests look, wait or fail there.
    """

    model = "wattos-embed"
    dimensions = DIMENSIONS

    def __init__(self, before: Callable[[Sequence[str]], Awaitable[None]] | None = None) -> None:
        self.before = before
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        if self.before is not None and kind == "passage":
            await self.before(texts)
        self.embedded += texts
        return [_unit([sum(column) for column in zip(*map(_of_word, _words(one)), strict=True)]) for one in texts]


def _words(one: str) -> list[str]:
    return re.findall(r"\w+", one.lower()) or [""]


@cache
def _of_word(word: str) -> list[float]:
    numbers = random.Random(hashlib.sha256(word.encode()).digest())
    return _unit([numbers.gauss(0, 1) for _ in range(DIMENSIONS)])


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector) or 1.0
    return [number / length for number in vector]


class Library:
    """One tenant's files and stores, and the services on them."""

    def __init__(self, database: Database, folder: Path, embedder: WordEmbedder, tenant_id: TenantId) -> None:
        self.database = database
        self.tenant_id = tenant_id
        self.embedder = embedder
        self.objects = ObjectStore(folder)
        self.files = FilesService(database, self.objects, max_file_bytes=1 << 24)
        self.stores = VectorStoresService(database, embedding_model=embedder.model)
        self.retriever = PassageRetriever(database, embedder.embed)
        self.ingestion = IngestionService(database, self.objects, embedder)

    @classmethod
    async def open(cls, database: Database, folder: Path, embedder: WordEmbedder | None = None) -> Library:
        """With a tenant of its own."""
        library = cls(database, folder, embedder or WordEmbedder(), TenantId(new_id()))
        await library.execute(
            "insert into tenants (id, name, slug) values (:tenant_id, 'x', :slug)", slug=library.tenant_id.hex
        )
        return library

    async def execute(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        """One statement in a transaction of the tenant, whose id is bound as `:tenant_id`."""
        async with self.database.tenant(self.tenant_id) as session:
            result = await session.execute(text(statement), {"tenant_id": self.tenant_id, **values})
            return [tuple(row) for row in result] if isinstance(result, CursorResult) and result.returns_rows else []

    async def upload(self, content: str | bytes, filename: str = "notes.md") -> UUID:
        data = content.encode() if isinstance(content, str) else content

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        stored = await self.files.upload(
            self.tenant_id, filename=filename, content_type=None, purpose="assistants", chunks=chunks()
        )
        return stored.id

    async def store_of(self, *file_ids: UUID) -> UUID:
        made = await self.stores.create(self.tenant_id, name="library", metadata={}, file_ids=file_ids)
        return made.id

    async def ingest(self, store_id: UUID, file_id: UUID) -> StoreFile:
        """Do the job here and now. Returns: what became of the file."""
        await self.ingestion.ingest(ingest_job(self.tenant_id, store_id, file_id))
        return await self.state(store_id, file_id)

    async def state(self, store_id: UUID, file_id: UUID) -> StoreFile:
        return await self.stores.get_file(self.tenant_id, store_id, file_id)

    async def filled_store(self, *contents: str) -> tuple[UUID, list[UUID]]:
        """A store with these documents, ingested."""
        file_ids = [await self.upload(content) for content in contents]
        store_id = await self.store_of(*file_ids)
        for file_id in file_ids:
            assert (await self.ingest(store_id, file_id)).status == "completed"
        return store_id, file_ids

    async def chunks(self, store_id: UUID, file_id: UUID) -> list[tuple[int, str]]:
        """Ordinal and text of the stored passages."""
        rows = await self.execute(
            "select ordinal, text from chunks where tenant_id = :tenant_id and store_id = :s and file_id = :f"
            " order by ordinal",
            s=store_id,
            f=file_id,
        )
        return [(int(str(ordinal)), str(passage)) for ordinal, passage in rows]


def long_document(n_sections: int = 40) -> str:
    """Markdown of about `n_sections` passages, no two alike."""
    return "\n\n".join(
        f"# Section {n}\n\n" + " ".join(f"Machine {n} has part number {n * 100 + k} on shelf {k}." for k in range(12))
        for n in range(n_sections)
    )


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = DEADLINE_S) -> None:
    """Return as soon as the condition holds. Raises: AssertionError after the deadline."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)
