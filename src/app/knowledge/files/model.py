"""An uploaded file."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

Purpose = Literal["assistants", "batch", "user_data"]


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """`filename` is a base name without control characters; `sha256` is of the bytes as they came."""

    id: UUID
    filename: str
    purpose: str
    content_type: str | None
    n_bytes: int
    created_at: datetime
