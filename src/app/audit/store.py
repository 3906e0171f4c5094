"""All SQL of the audit log. Each function works in the caller's transaction, which must be that of a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.tables import AuditEventRow, AuditHeadRow, AuditSubjectRow

_BATCH = 1000


class Personal(NamedTuple):
    """A value that tells who someone is."""

    person: UUID
    kind: str
    value: str


class Stored(NamedTuple):
    """One event as it lies there."""

    tenant_id: UUID
    sequence: int
    id: UUID
    payload: str
    hash: bytes


_STORED = (
    AuditEventRow.tenant_id,
    AuditEventRow.sequence,
    AuditEventRow.id,
    AuditEventRow.payload,
    AuditEventRow.hash,
)


async def append(session: AsyncSession, event_id: UUID, payload: str) -> None:
    """At the end of the current tenant's chain. Until the transaction ends, others who append to it wait."""
    await session.execute(text("select append_audit_event(:id, :payload)"), {"id": event_id, "payload": payload})


async def pseudonyms(
    session: AsyncSession, tenant_id: UUID, values: Collection[Personal], fresh: Sequence[UUID]
) -> dict[Personal, UUID]:
    """The pseudonym of each value: the one it has, else one of `fresh`."""
    rows = [
        {"tenant_id": tenant_id, "pseudonym": pseudonym, "person": one.person, "kind": one.kind, "value": one.value}
        for one, pseudonym in zip(values, fresh, strict=True)
    ]
    await session.execute(insert(AuditSubjectRow).values(rows).on_conflict_do_nothing())
    row = AuditSubjectRow
    found = await session.execute(
        select(row.person, row.kind, row.value, row.pseudonym).where(
            row.tenant_id == tenant_id, row.value.in_([one.value for one in values])
        )
    )
    known = {Personal(person, kind, value): pseudonym for person, kind, value, pseudonym in found}
    return {one: known[one] for one in values}


async def resolved(session: AsyncSession, tenant_id: UUID, wanted: Collection[UUID]) -> dict[UUID, str]:
    """What pseudonyms stand for; those of erased people are missing."""
    subject = AuditSubjectRow
    found = await session.execute(
        select(subject.pseudonym, subject.value).where(subject.tenant_id == tenant_id, subject.pseudonym.in_(wanted))
    )
    return {row.pseudonym: row.value for row in found}


async def erase(session: AsyncSession, tenant_id: UUID, person: UUID) -> None:
    """What is known of a person's pseudonyms."""
    await session.execute(
        delete(AuditSubjectRow).where(AuditSubjectRow.tenant_id == tenant_id, AuditSubjectRow.person == person)
    )


async def page(
    session: AsyncSession, tenant_id: UUID, *, limit: int, after: UUID | None, action: str | None
) -> list[Stored]:
    """Newest first, one more than `limit` if there is one. `after`: the id of the last event seen."""
    row = AuditEventRow
    statement = select(*_STORED).where(row.tenant_id == tenant_id).order_by(row.sequence.desc()).limit(limit + 1)
    if action is not None:
        statement = statement.where(row.action == action)
    if after is not None:
        seen = select(row.sequence).where(row.tenant_id == tenant_id, row.id == after).scalar_subquery()
        statement = statement.where(row.sequence < seen)
    return [Stored(*found) for found in await session.execute(statement)]


async def heads(session: AsyncSession) -> list[tuple[UUID, int, bytes]]:
    """Of all chains that there are; of those without a head too, with sequence -1. For the platform's role."""
    event, head = AuditEventRow, AuditHeadRow
    known = {row.tenant_id: (row.sequence, row.hash) for row in await session.execute(select(*_head_columns(head)))}
    chains = (await session.execute(select(func.distinct(event.tenant_id)))).scalars()
    return [(tenant, *known.get(tenant, (-1, b""))) for tenant in sorted({*known, *chains})]


def _head_columns(head: type[AuditHeadRow]) -> tuple[Any, ...]:
    return head.tenant_id, head.sequence, head.hash


async def chain(session: AsyncSession, tenant_id: UUID) -> AsyncIterator[Stored]:
    """A tenant's whole chain in order, a thousand at a time. For the platform's role."""
    row, seen = AuditEventRow, -(2**63)
    while True:
        statement = select(*_STORED).where(row.tenant_id == tenant_id, row.sequence > seen)
        rows = [Stored(*found) for found in await session.execute(statement.order_by(row.sequence).limit(_BATCH))]
        for one in rows:
            yield one
        if len(rows) < _BATCH:
            return
        seen = rows[-1].sequence
