"""All SQL of prices. Each function works in the caller's transaction, which is a tenant's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import RowMapping, insert, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.paging import PageRequest, Rows, keyset
from app.llm.prices import Price
from app.prices.model import PriceVersion
from app.prices.tables import PriceRow

_NUMBERS = Price.__struct_fields__
_SHOWN = (
    PriceRow.id,
    PriceRow.tenant_id,
    PriceRow.target,
    PriceRow.valid_from,
    PriceRow.created_at,
    PriceRow.input_nusd_per_mtok,
    PriceRow.output_nusd_per_mtok,
    PriceRow.cached_nusd_per_mtok,
    PriceRow.cache_write_nusd_per_mtok,
    PriceRow.reasoning_nusd_per_mtok,
)


async def is_tenant(session: AsyncSession, tenant_id: UUID) -> bool:
    found = await session.execute(text("select exists (select from tenants where id = :id)"), {"id": tenant_id})
    return bool(found.scalar_one())


async def add(
    session: AsyncSession, *, tenant_id: UUID, id: UUID, target: str, price: Price | None, valid_from: datetime
) -> PriceVersion:
    numbers: dict[str, Any] = msgspec.structs.asdict(price) if price else {}
    new = {"tenant_id": tenant_id, "id": id, "target": target, "valid_from": valid_from, **numbers}
    made = await session.execute(insert(PriceRow).values(new).returning(*_SHOWN))
    return _version(made.mappings().one())


async def in_force(session: AsyncSession, tenant_id: UUID, at: datetime) -> list[PriceVersion]:
    """One version a target."""
    row = PriceRow
    statement = (
        select(*_SHOWN)
        .ext(distinct_on(row.target))
        .where(row.tenant_id == tenant_id, row.valid_from <= at)
        .order_by(row.target, row.valid_from.desc(), row.id.desc())
    )
    return _versions((await session.execute(statement)).mappings().all())


async def to_come(session: AsyncSession, tenant_id: UUID, after: datetime) -> list[PriceVersion]:
    row = PriceRow
    statement = select(*_SHOWN).where(row.tenant_id == tenant_id, row.valid_from > after)
    return _versions((await session.execute(statement)).mappings().all())


async def page(session: AsyncSession, tenant_id: UUID, wanted: PageRequest, target: str | None) -> Rows[PriceVersion]:
    """In the order in which they were set, newest first."""
    statement = select(*_SHOWN).where(PriceRow.tenant_id == tenant_id)
    if target is not None:
        statement = statement.where(PriceRow.target == target)
    rows = (await session.execute(keyset(statement, PriceRow.id, wanted))).mappings().all()
    return Rows[PriceVersion].cut(_versions(rows), wanted.limit)


def _versions(rows: Sequence[RowMapping]) -> list[PriceVersion]:
    return [_version(row) for row in rows]


def _version(row: RowMapping) -> PriceVersion:
    numbers = {name: row[name] for name in _NUMBERS}
    return PriceVersion(
        id=row["id"],
        tenant_id=row["tenant_id"],
        target=row["target"],
        price=None if row["input_nusd_per_mtok"] is None else Price(**numbers),
        valid_from=row["valid_from"],
        created_at=row["created_at"],
    )
