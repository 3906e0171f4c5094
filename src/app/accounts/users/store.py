"""All SQL of users. Each function works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.users.model import User
from app.accounts.users.tables import UserRow
from app.database.paging import PageRequest, Rows, keyset

_USER = (
    UserRow.id,
    UserRow.tenant_id,
    UserRow.email,
    UserRow.name,
    UserRow.role,
    UserRow.external_id,
    UserRow.disabled_at,
    UserRow.created_at,
    UserRow.updated_at,
)


async def insert_user(session: AsyncSession, values: Mapping[str, Any]) -> User:
    """Raises: IntegrityError when the e-mail address or the external id is taken in this tenant."""
    statement = insert(UserRow).values(**values).returning(*_USER)
    return User(**(await session.execute(statement)).mappings().one())


async def user_by_id(session: AsyncSession, tenant_id: UUID, user_id: UUID, *, lock: bool = False) -> User | None:
    statement = select(*_USER).where(UserRow.tenant_id == tenant_id, UserRow.id == user_id)
    row = (await session.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    return User(**row) if row else None


async def tenant_of_user(session: AsyncSession, user_id: UUID) -> UUID | None:
    """Across tenants: for the platform's role."""
    return (await session.execute(select(UserRow.tenant_id).where(UserRow.id == user_id))).scalar_one_or_none()


async def list_users(session: AsyncSession, tenant_id: UUID, wanted: PageRequest) -> Rows[User]:
    rows = await session.execute(keyset(select(*_USER).where(UserRow.tenant_id == tenant_id), UserRow.id, wanted))
    return Rows[User].cut([User(**row) for row in rows.mappings()], wanted.limit)


async def update_user(session: AsyncSession, tenant_id: UUID, user_id: UUID, values: Mapping[str, Any]) -> User:
    """Raises: IntegrityError as `insert_user` does."""
    statement = (
        update(UserRow)
        .where(UserRow.tenant_id == tenant_id, UserRow.id == user_id)
        .values(**values, updated_at=func.now())
        .returning(*_USER)
    )
    return User(**(await session.execute(statement)).mappings().one())


async def delete_user(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> None:
    """With its keys and sessions."""
    await session.execute(delete(UserRow).where(UserRow.tenant_id == tenant_id, UserRow.id == user_id))
