"""Vector stores and the files in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

FileStatus = Literal["in_progress", "completed", "failed", "cancelled"]
Stage = Literal["queued", "parsing", "chunking", "embedding", "done"]

INGEST = "ingest"
"""The job's name; its arguments are what `ingest_job` says."""


def ingest_job(tenant_id: UUID, store_id: UUID, file_id: UUID) -> dict[str, str]:
    return {"tenant_id": str(tenant_id), "store_id": str(store_id), "file_id": str(file_id)}


INGEST_LOCK = "file_id"
"""A file's text is written by one job at a time, whatever stores it is in."""


class FileCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many of a store's files are in which state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStore(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of files that is searched as one. `n_bytes`: text of its passages."""

    id: UUID
    name: str
    metadata: Mapping[str, str]
    embedding_model: str
    created_at: datetime
    last_active_at: datetime
    file_counts: FileCounts
    n_bytes: int


class StoreFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a store. `n_done` of `n_total` passages are embedded: counted, never estimated."""

    store_id: UUID
    file_id: UUID
    status: FileStatus
    stage: Stage
    n_done: int
    n_total: int
    error_code: str | None
    error_message: str | None
    attributes: Mapping[str, str | float | bool]
    n_bytes: int
    created_at: datetime
