"""Tenants and keys on the wire. Unknown fields are refused under `/api/v1`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from app.accounts.model import ApiKey, IssuedKey, KeyState, Tenant
from app.ids import encode_id
from plugins.contract.permissions import Permission

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Slug = Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern="^[a-z0-9](-?[a-z0-9])*$")]


class TenantCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    slug: Slug


TENANT_EXAMPLES = {"company": {"name": "Muster GmbH", "slug": "muster"}}


class TenantOut(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    slug: str
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> TenantOut:
        return cls(id=encode_id("ten", tenant.id), name=tenant.name, slug=tenant.slug, created_at=tenant.created_at)


class KeyCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`models` left out: all; `[]`: none. `expires_at` needs a time zone. `scopes` left out: models and documents.

    A key of a user may never do more than that user. `tenant_id` is for the platform administrator; everybody else's is
    their own.
    """

    name: Name
    tenant_id: str | None = None
    user_id: str | None = None
    scopes: Annotated[list[Permission], msgspec.Meta(max_length=100)] = []
    models: Annotated[list[Name], msgspec.Meta(max_length=1000)] | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


KEY_EXAMPLES = {
    "of one service": {
        "tenant_id": "ten_019a2b3c4d5e7f8091a2b3c4d5e6f708",
        "name": "intranet search",
        "models": ["wattos-extractive"],
        "expires_at": "2030-01-01T00:00:00Z",
    }
}


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed: without its secret."""

    id: str
    tenant_id: str
    name: str
    prefix: str
    user_id: str | None
    scopes: list[str]
    models: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    state: KeyState
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> KeyOut:
        return cls(
            id=encode_id("key", key.id),
            tenant_id=encode_id("ten", key.tenant_id),
            name=key.name,
            prefix=key.prefix,
            user_id=encode_id("user", key.user_id) if key.user_id else None,
            scopes=list(key.scopes),
            models=None if key.models is None else list(key.models),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            state=key.state(datetime.now(UTC)),
            last_used_at=key.last_used_at,
        )


class KeyCreated(KeyOut, frozen=True, kw_only=True):
    """The answer to its making: the only one that holds `key`."""

    key: str

    @classmethod
    def issued(cls, issued: IssuedKey) -> KeyCreated:
        return cls(key=issued.key, **msgspec.structs.asdict(KeyOut.of(issued.record)))
