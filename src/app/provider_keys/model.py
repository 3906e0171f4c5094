"""Own provider keys, as the rules see them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class ProviderKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: UUID
    tenant_id: UUID
    provider: str
    name: str
    base_url: str | None
    hint: str
    created_at: datetime
    updated_at: datetime


class SealedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it lies in the database."""

    id: UUID
    provider: str
    base_url: str | None
    sealed: bytes
