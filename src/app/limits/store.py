"""All SQL of limits. Each function works in the caller's transaction, which is a tenant's unless it says otherwise."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from sqlalchemy import RowMapping, Uuid, column, func, or_, select, table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.paging import PageRequest, Rows, keyset
from app.limits.model import Allowance, SetLimit
from app.limits.tables import LimitRow
from plugins.contract.limits import Limit, LimitScope

_NUMBERS = (LimitRow.requests_per_minute, LimitRow.tokens_per_minute, LimitRow.max_concurrency)
_SHOWN = (
    LimitRow.tenant_id,
    LimitRow.scope,
    LimitRow.scope_id,
    *_NUMBERS,
    LimitRow.created_at,
    LimitRow.updated_at,
)


async def tenant_of(session: AsyncSession, kind: Literal["users", "api_keys"], id: UUID) -> UUID | None:
    """Across tenants: for the platform's role."""
    whose = table(kind, column("tenant_id", Uuid), column("id", Uuid))
    return (await session.execute(select(whose.c.tenant_id).where(whose.c.id == id))).scalar_one_or_none()


async def find(session: AsyncSession, tenant_id: UUID, scope_id: UUID) -> SetLimit | None:
    """Locked until the transaction ends."""
    row = LimitRow
    statement = select(*_SHOWN).where(row.tenant_id == tenant_id, row.scope_id == scope_id).with_for_update()
    found = (await session.execute(statement)).mappings().one_or_none()
    return _limit(found) if found else None


async def put(
    session: AsyncSession, tenant_id: UUID, scope: LimitScope, scope_id: UUID, allowance: Allowance
) -> SetLimit:
    """In the place of the one that there is. Raises: IntegrityError where there is no such tenant, user or key."""
    numbers = {
        "requests_per_minute": allowance.requests_per_minute,
        "tokens_per_minute": allowance.tokens_per_minute,
        "max_concurrency": allowance.max_concurrency,
    }
    statement = insert(LimitRow).values(
        tenant_id=tenant_id,
        scope=scope,
        scope_id=scope_id,
        user_id=scope_id if scope == "user" else None,
        key_id=scope_id if scope == "key" else None,
        **numbers,
    )
    statement = statement.on_conflict_do_update(
        index_elements=[LimitRow.tenant_id, LimitRow.scope_id], set_={**numbers, "updated_at": func.now()}
    )
    return _limit((await session.execute(statement.returning(*_SHOWN))).mappings().one())


async def page(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> Rows[SetLimit]:
    row = LimitRow
    rows = await session.execute(keyset(select(*_SHOWN).where(row.tenant_id == tenant_id), row.scope_id, wanted))
    return Rows[SetLimit].cut([_limit(found) for found in rows.mappings()], wanted.limit)


async def in_force(session: AsyncSession, tenant_id: UUID) -> list[Limit]:
    """All of a tenant's that limit anything."""
    row = LimitRow
    statement = select(row.scope, row.scope_id, *_NUMBERS).where(
        row.tenant_id == tenant_id, or_(*(number.is_not(None) for number in _NUMBERS))
    )
    return [Limit(**found) for found in (await session.execute(statement)).mappings()]


def _limit(row: RowMapping) -> SetLimit:
    return SetLimit(
        tenant_id=row["tenant_id"],
        scope=row["scope"],
        scope_id=row["scope_id"],
        allowance=Allowance(
            requests_per_minute=row["requests_per_minute"],
            tokens_per_minute=row["tokens_per_minute"],
            max_concurrency=row["max_concurrency"],
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
