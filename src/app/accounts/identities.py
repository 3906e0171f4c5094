"""Whose credential is this? Runs before a tenant is known, in a role that may read what that takes and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.accounts import roles
from app.database.engine import Database, Role
from plugins.contract.credentials import EXTERNAL, KEY, SESSION
from plugins.contract.principal import Identity, KeyId, Principal, TenantId

_FIND_KEY = text(
    """
    select k.tenant_id, k.id, k.user_id, u.role, k.scopes, k.models, extract(epoch from k.expires_at)::float8,
           k.revoked_at is not null or u.disabled_at is not null
    from api_keys k left join users u on u.tenant_id = k.tenant_id and u.id = k.user_id
    where k.key_hash = :key_hash
    """
)
_FIND_SESSION = text(
    """
    select s.tenant_id, s.id, s.user_id, u.role, extract(epoch from s.expires_at)::float8,
           s.revoked_at is not null or u.disabled_at is not null
    from sessions s join users u on u.tenant_id = s.tenant_id and u.id = s.user_id
    where s.id = :id
    """
)
_FIND_EXTERNAL = text(
    """
    select u.tenant_id, null::uuid, u.id, u.role, null::float8, u.disabled_at is not null
    from users u join tenants t on t.id = u.tenant_id
    where t.slug = :slug and u.external_id = :external_id
    """
)
_NOTE_USES = text(
    """
    update api_keys k set last_used_at = greatest(k.last_used_at, to_timestamp(used.at))
    from unnest(cast(:ids as uuid[]), cast(:times as float8[])) as used (id, at)
    where k.id = used.id
    """
)


class DatabaseIdentityLookup:
    """The `IdentityLookup` port on PostgreSQL: one indexed row by handle."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, handle: bytes) -> Identity | None:
        """Raises: DatabaseUnavailable."""
        kind, value = handle[:1], handle[1:]
        async with self._database.role(Role.AUTH) as session:
            if kind == KEY:
                row = (await session.execute(_FIND_KEY, {"key_hash": value})).one_or_none()
                return None if row is None else _of_key(row)
            if kind == SESSION:
                found = await session.execute(_FIND_SESSION, {"id": UUID(bytes=value)})
            elif kind == EXTERNAL:
                slug, _, subject = value.decode().partition("\n")
                found = await session.execute(_FIND_EXTERNAL, {"slug": slug, "external_id": subject})
            else:
                return None
            row = found.one_or_none()
        return None if row is None else _of_user(row)

    async def used(self, keys: Mapping[UUID, float]) -> None:
        """Raises: DatabaseUnavailable."""
        async with self._database.role(Role.AUTH) as session:
            await session.execute(_NOTE_USES, {"ids": [*keys], "times": [*keys.values()]})


def _of_key(row: Sequence[Any]) -> Identity:
    tenant_id, key_id, user_id, role, scopes, models, expires_at, is_revoked = row
    principal = Principal(
        tenant_id=_one_object(TenantId(tenant_id)),
        key_id=KeyId(key_id),
        user_id=user_id,
        role=role,
        permissions=roles.of_key(tuple(scopes), role),
        models=None if models is None else frozenset(models),
    )
    return Identity(principal=principal, expires_at=expires_at, revoked=is_revoked)


@lru_cache(maxsize=10_000)
def _one_object(tenant_id: TenantId) -> TenantId:
    """All of a tenant's keys share it: 100,000 keys are remembered."""
    return tenant_id


def _of_user(row: Sequence[Any]) -> Identity:
    tenant_id, session_id, user_id, role, expires_at, is_revoked = row
    principal = Principal(
        tenant_id=TenantId(tenant_id),
        user_id=user_id,
        session_id=session_id,
        role=role,
        permissions=roles.OF_ROLE[role],
    )
    return Identity(principal=principal, expires_at=expires_at, revoked=is_revoked)
