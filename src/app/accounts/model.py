"""Tenants and keys, as the rules see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

KeyState = Literal["active", "expired", "revoked"]


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation whose data nobody else sees."""

    id: UUID
    name: str
    slug: str
    created_at: datetime


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. `models` None: all; none at all when it is empty."""

    id: UUID
    tenant_id: UUID
    name: str
    prefix: str
    created_at: datetime
    user_id: UUID | None = None
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To half a minute."""

    def state(self, now: datetime) -> KeyState:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class IssuedKey(msgspec.Struct, frozen=True):
    """A key at birth: the only moment at which `key` is known."""

    record: ApiKey
    key: str
