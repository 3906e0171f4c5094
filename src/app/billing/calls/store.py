"""All SQL of reading calls. Each function works in the caller's transaction, which is a tenant's."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.calls.model import CallFilter, first_id
from app.billing.model import time_of
from app.billing.tables import CallRow
from app.database.paging import PageRequest, keyset

EVERY_CALL = CallFilter()


async def page(
    session: AsyncSession, tenant_id: UUID, wanted: PageRequest, which: CallFilter = EVERY_CALL
) -> list[CallRow]:
    """In the order that is wanted, one more than asked for if there is one."""
    statement = _matching(tenant_id, which)
    if wanted.after is not None:  # keeps other months' partitions out
        moment = time_of(wanted.after)
        statement = statement.where(CallRow.time <= moment if wanted.order == "desc" else CallRow.time >= moment)
    return list((await session.execute(keyset(statement, CallRow.id, wanted))).scalars())


def _matching(tenant_id: UUID, which: CallFilter) -> Select[CallRow]:
    """Times keep other months' partitions out; ids, which hold the same times, are what the index is in order of."""
    row = CallRow
    statement = select(row).where(row.tenant_id == tenant_id)
    if (begins := which.begins) is not None:
        statement = statement.where(row.time >= begins, row.id >= first_id(begins))
    if (ends := which.ends) is not None:
        statement = statement.where(row.time < ends, row.id < first_id(ends))
    if which.model is not None:
        statement = statement.where(row.model == which.model)
    if which.outcome is not None:
        statement = statement.where(row.outcome == which.outcome)
    if which.key_id is not None:
        statement = statement.where(row.key_id == which.key_id)
    return statement
