"""Whether an audit log is whole: each event's hash is recomputed from the one before."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.audit import store
from app.audit.store import Stored
from app.database.engine import Database, Role
from plugins.contract.errors import WattosError


class BrokenAuditLog(WattosError):
    """An event was changed, removed or inserted: the message says where."""

    code = "broken_audit_log"


class ChainState(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's chain. `broken` says what is wrong with it and where; None: nothing."""

    tenant_id: UUID
    n_events: int
    head: bytes
    """The hash of its last event: kept elsewhere, it shows later that the whole chain was not made anew."""
    broken: str | None = None


def next_hash(before: bytes, event: Stored) -> bytes:
    """SHA-256 over the hash before, and tenant, sequence, id and payload, a line each: as the database computes it."""
    line = f"{event.tenant_id}\n{event.sequence}\n{event.id}\n{event.payload}"
    return hashlib.sha256(before + line.encode()).digest()


Heads = Mapping[UUID, tuple[int, bytes]]
"""How many events a chain had, and the hash of the last."""


async def verify(database: Database, known: Heads | None = None) -> AsyncIterator[ChainState]:
    """Every chain, in one transaction that sees one state of the log, however many events come meanwhile.

    `known`: heads of before. A chain that no longer goes through its own was made anew, with right hashes or cut off.
    """
    known = known or {}
    async with database.role(Role.PLATFORM) as session:
        await session.execute(text("set transaction isolation level repeatable read"))
        found = {tenant_id: (sequence, head) for tenant_id, sequence, head in await store.heads(session)}
        for tenant_id in sorted({*found, *known}):
            sequence, head = found.get(tenant_id, (0, b""))
            state = await _followed(tenant_id, store.chain(session, tenant_id), known.get(tenant_id, (0, b"")))
            if state.broken is None and (state.n_events, state.head) != (sequence, head):
                lost = f"it should end with event {sequence}, and ends with {state.n_events}"
                state = msgspec.structs.replace(state, broken=f"events were removed from its end, or its head: {lost}")
            yield state


async def _followed(tenant_id: UUID, events: AsyncIterator[Stored], known: tuple[int, bytes]) -> ChainState:
    """Up to the first event that does not follow from the one before."""
    before, n_events = b"", 0
    is_through = known[0] == 0
    async for event in events:
        broken = None
        if event.sequence != n_events + 1:
            n_missing = event.sequence - n_events - 1
            broken = (
                f"{n_missing} removed before event {event.sequence}" if n_missing > 0 else "an event was put before 1"
            )
        elif next_hash(before, event) != event.hash:
            broken = f"event {event.sequence} was changed, inserted or moved"
        if broken is not None:
            return ChainState(tenant_id=tenant_id, n_events=n_events, head=before, broken=broken)
        before, n_events = event.hash, event.sequence
        is_through = is_through or known == (n_events, before)
    made_anew = None if is_through else f"it was made anew: event {known[0]} is not the one that it was"
    return ChainState(tenant_id=tenant_id, n_events=n_events, head=before, broken=made_anew)
