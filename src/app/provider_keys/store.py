"""All SQL of own provider keys. Each function works in the caller's transaction, which is a tenant's."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.paging import PageRequest, Rows, keyset
from app.provider_keys.model import ProviderKey, SealedKey
from app.provider_keys.tables import ProviderKeyRow

_SHOWN = (
    ProviderKeyRow.id,
    ProviderKeyRow.tenant_id,
    ProviderKeyRow.provider,
    ProviderKeyRow.name,
    ProviderKeyRow.base_url,
    ProviderKeyRow.hint,
    ProviderKeyRow.created_at,
    ProviderKeyRow.updated_at,
)


async def of_provider(session: AsyncSession, tenant_id: UUID, provider: str) -> ProviderKey | None:
    """Locked until the transaction ends."""
    row = ProviderKeyRow
    statement = select(*_SHOWN).where(row.tenant_id == tenant_id, row.provider == provider).with_for_update()
    found = (await session.execute(statement)).mappings().one_or_none()
    return ProviderKey(**found) if found else None


async def put(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    id: UUID,
    provider: str,
    name: str,
    base_url: str | None,
    hint: str,
    sealed: bytes,
) -> ProviderKey:
    """In the place of the one that there is. Raises: IntegrityError for an unknown tenant."""
    new = {"id": id, "name": name, "base_url": base_url, "hint": hint, "sealed": sealed}
    statement = insert(ProviderKeyRow).values(tenant_id=tenant_id, provider=provider, **new)
    statement = statement.on_conflict_do_update(
        index_elements=[ProviderKeyRow.tenant_id, ProviderKeyRow.provider], set_={**new, "updated_at": func.now()}
    )
    return ProviderKey(**(await session.execute(statement.returning(*_SHOWN))).mappings().one())


async def page(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> Rows[ProviderKey]:
    row = ProviderKeyRow
    rows = await session.execute(keyset(select(*_SHOWN).where(row.tenant_id == tenant_id), row.id, wanted))
    return Rows[ProviderKey].cut([ProviderKey(**found) for found in rows.mappings()], wanted.limit)


async def remove(session: AsyncSession, tenant_id: UUID, id: UUID) -> str | None:
    """The vendor whose key it was."""
    row = ProviderKeyRow
    gone = await session.execute(delete(row).where(row.tenant_id == tenant_id, row.id == id).returning(row.provider))
    return gone.scalar_one_or_none()


async def sealed(session: AsyncSession, tenant_id: UUID) -> list[SealedKey]:
    """All of a tenant's."""
    row = ProviderKeyRow
    found = await session.execute(
        select(row.id, row.provider, row.base_url, row.sealed).where(row.tenant_id == tenant_id)
    )
    return [SealedKey(**one) for one in found.mappings()]


async def reseal(session: AsyncSession, tenant_id: UUID, id: UUID, sealed: bytes) -> None:
    row = ProviderKeyRow
    await session.execute(update(row).where(row.tenant_id == tenant_id, row.id == id).values(sealed=sealed))
