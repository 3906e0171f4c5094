"""All SQL of accounts. Each function works in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.model import ApiKey, Tenant
from app.accounts.tables import ApiKeyRow, TenantRow
from app.database.paging import PageRequest, Rows, keyset

_TENANT = (TenantRow.id, TenantRow.name, TenantRow.slug, TenantRow.created_at)
_KEY = (
    ApiKeyRow.id,
    ApiKeyRow.tenant_id,
    ApiKeyRow.name,
    ApiKeyRow.prefix,
    ApiKeyRow.created_at,
    ApiKeyRow.user_id,
    ApiKeyRow.scopes,
    ApiKeyRow.models,
    ApiKeyRow.expires_at,
    ApiKeyRow.revoked_at,
    ApiKeyRow.last_used_at,
)


async def insert_tenant(session: AsyncSession, *, id: UUID, name: str, slug: str) -> Tenant:
    """Raises: IntegrityError when the slug is taken."""
    statement = insert(TenantRow).values(id=id, name=name, slug=slug).returning(*_TENANT)
    return Tenant(**(await session.execute(statement)).mappings().one())


async def tenant_by_id(session: AsyncSession, tenant_id: UUID) -> Tenant | None:
    row = (await session.execute(select(*_TENANT).where(TenantRow.id == tenant_id))).mappings().one_or_none()
    return Tenant(**row) if row else None


async def tenant_by_slug(session: AsyncSession, slug: str) -> Tenant | None:
    row = (await session.execute(select(*_TENANT).where(TenantRow.slug == slug))).mappings().one_or_none()
    return Tenant(**row) if row else None


async def list_tenants(session: AsyncSession, wanted: PageRequest) -> Rows[Tenant]:
    rows = await session.execute(keyset(select(*_TENANT), TenantRow.id, wanted))
    return Rows[Tenant].cut([Tenant(**row) for row in rows.mappings()], wanted.limit)


async def insert_key(
    session: AsyncSession,
    *,
    id: UUID,
    tenant_id: UUID,
    name: str,
    prefix: str,
    key_hash: bytes,
    user_id: UUID | None,
    scopes: tuple[str, ...],
    models: tuple[str, ...] | None,
    expires_at: datetime | None,
) -> ApiKey:
    statement = (
        insert(ApiKeyRow)
        .values(
            id=id,
            tenant_id=tenant_id,
            name=name,
            prefix=prefix,
            key_hash=key_hash,
            user_id=user_id,
            scopes=list(scopes),
            models=list(models) if models is not None else None,
            expires_at=expires_at,
        )
        .returning(*_KEY)
    )
    return _key((await session.execute(statement)).mappings().one())


async def list_keys(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> Rows[ApiKey]:
    statement = select(*_KEY).where(ApiKeyRow.tenant_id == tenant_id)
    rows = await session.execute(keyset(statement, ApiKeyRow.id, wanted))
    return Rows[ApiKey].cut([_key(row) for row in rows.mappings()], wanted.limit)


async def tenant_of_key(session: AsyncSession, key_id: UUID) -> UUID | None:
    """Across tenants: for the platform's role."""
    return (await session.execute(select(ApiKeyRow.tenant_id).where(ApiKeyRow.id == key_id))).scalar_one_or_none()


async def key_by_id(session: AsyncSession, tenant_id: UUID, key_id: UUID, *, lock: bool = False) -> ApiKey | None:
    statement = select(*_KEY).where(ApiKeyRow.tenant_id == tenant_id, ApiKeyRow.id == key_id)
    row = (await session.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    return _key(row) if row else None


async def revoke_key(session: AsyncSession, tenant_id: UUID, key_id: UUID) -> None:
    """The first revocation's time stays."""
    await session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.tenant_id == tenant_id, ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


def _key(row: RowMapping) -> ApiKey:
    values: dict[str, Any] = {**row}
    values["scopes"] = tuple(values["scopes"])
    values["models"] = None if values["models"] is None else tuple(values["models"])
    return ApiKey(**values)
