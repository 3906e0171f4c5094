"""Whose key is this? Runs before a tenant is known, in a role that may read key columns and nothing else."""

from __future__ import annotations

from sqlalchemy import text

from app.database.engine import Database, Role
from plugins.contract.principal import KeyId, KeyRecord, Principal, TenantId

_FIND = text(
    "select tenant_id, id, user_id, models, extract(epoch from expires_at)::float8, revoked_at is not null"
    " from api_keys where key_hash = :key_hash"
)


class DatabaseKeyLookup:
    """The `KeyLookup` port on PostgreSQL: one indexed row by the key's SHA-256."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key_hash: bytes) -> KeyRecord | None:
        """Raises: DatabaseUnavailable."""
        async with self._database.role(Role.AUTH) as session:
            row = (await session.execute(_FIND, {"key_hash": key_hash})).one_or_none()
        if row is None:
            return None
        tenant_id, key_id, user_id, models, expires_at, revoked = row
        principal = Principal(
            tenant_id=TenantId(tenant_id),
            key_id=KeyId(key_id),
            user_id=user_id,
            models=None if models is None else frozenset(models),
        )
        return KeyRecord(principal=principal, expires_at=expires_at, revoked=revoked)
