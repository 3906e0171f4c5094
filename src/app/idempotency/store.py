"""All SQL of idempotent requests. Times are the database's own: replicas' clocks may differ.

Each function works in the caller's transaction, which is a tenant's unless it says otherwise.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.idempotency.model import Claim, Entry, Place
from app.idempotency.tables import IdempotentRequestRow

_ROW = IdempotentRequestRow


async def begin(session: AsyncSession, claim: Claim, fingerprint: bytes | None, *, lease_s: float) -> bool:
    """Returns: whether the place was free. If not, nothing is locked or written."""
    place = claim.place
    until = func.now() + timedelta(seconds=lease_s)
    row = {"tenant_id": place.tenant_id, "id": place.id, "claim": claim.id, "fingerprint": fingerprint, "until": until}
    statement = insert(_ROW).values(row).on_conflict_do_nothing().returning(_ROW.claim)
    return (await session.execute(statement)).one_or_none() is not None


async def take_over(session: AsyncSession, claim: Claim, fingerprint: bytes | None, *, lease_s: float) -> bool:
    """The place of what has lapsed. Returns: whether it still had."""
    statement = (
        update(_ROW)
        .where(*_at(claim.place), _ROW.until < func.now())
        .values(
            claim=claim.id,
            fingerprint=fingerprint,
            until=func.now() + timedelta(seconds=lease_s),
            status=None,
            answer=None,
        )
        .returning(_ROW.claim)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def find(session: AsyncSession, place: Place) -> Entry | None:
    statement = select(_ROW.fingerprint, _ROW.status, _ROW.answer, _ROW.until < func.now()).where(*_at(place))
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else Entry(*row)


async def renew(session: AsyncSession, claim: Claim, *, lease_s: float) -> bool:
    """Returns: whether it is still ours."""
    until = func.now() + timedelta(seconds=lease_s)
    statement = update(_ROW).where(*_ours(claim)).values(until=until).returning(_ROW.claim)
    return (await session.execute(statement)).one_or_none() is not None


async def finish(
    session: AsyncSession, claim: Claim, *, fingerprint: bytes | None, status: int, answer: bytes | None, keep_s: float
) -> bool:
    """Returns: whether it was still ours."""
    until = func.now() + timedelta(seconds=keep_s)
    new = {"fingerprint": fingerprint, "status": status, "answer": answer, "until": until}
    statement = update(_ROW).where(*_ours(claim)).values(new).returning(_ROW.claim)
    return (await session.execute(statement)).one_or_none() is not None


async def release(session: AsyncSession, claim: Claim) -> None:
    """As if nobody had asked."""
    await session.execute(delete(_ROW).where(*_ours(claim)))


async def forget(session: AsyncSession, *, limit: int) -> int:
    """Rows whose time is over, of all tenants: `limit` at most. For the role JOBS. Returns: how many."""
    old = select(_ROW.tenant_id, _ROW.id).where(_ROW.until < func.now()).limit(limit).subquery()
    statement = delete(_ROW).where(_ROW.tenant_id == old.c.tenant_id, _ROW.id == old.c.id, _ROW.until < func.now())
    return len((await session.execute(statement.returning(_ROW.id))).all())


def _at(place: Place) -> tuple[ColumnElement[bool], ...]:
    return _ROW.tenant_id == place.tenant_id, _ROW.id == place.id


def _ours(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return *_at(claim.place), _ROW.claim == claim.id, _ROW.status.is_(None)
