"""Writing an event, in the transaction of the change itself: neither is there without the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import store
from app.audit.model import NOBODY, PERSONAL, Actor, Change
from app.audit.store import Personal
from app.database.engine import Database
from app.ids import new_id

PSEUDONYM = "pseudonym:"
"""What stands before a pseudonym in an event."""


async def record(session: AsyncSession, tenant_id: UUID, actor: Actor | None, change: Change) -> None:
    """Append to the chain of `tenant_id`, whose transaction this is. Whatever tells who someone is, is replaced.

    Without an actor nobody asked for the change: upkeep is not told.
    """
    if actor is None:
        return
    person = change.id if change.kind == "user" and change.id is not None else NOBODY
    acting = actor.id if actor.kind == "user" and actor.id is not None else NOBODY
    personal: dict[tuple[str, ...], Personal] = {}
    if actor.address is not None:
        personal["address",] = Personal(acting, "address", actor.address)
    if acting != NOBODY:
        personal["actor",] = Personal(acting, "user", acting.hex)
    if person != NOBODY:
        personal["subject",] = Personal(person, "user", person.hex)
    for name, fields in (("before", change.before), ("after", change.after)):
        for field in fields.keys() & PERSONAL:
            if fields[field] is not None:
                owner = UUID(hex=str(fields[field])) if field == "user_id" else person
                kind = "user" if field == "user_id" else field
                personal[name, field] = Personal(owner, kind, str(fields[field]))
    stands_for = await _stand_ins(session, tenant_id, personal)
    event: dict[str, Any] = {
        "action": change.action,
        "actor": {"kind": actor.kind, "id": stands_for.get(("actor",), actor.id.hex if actor.id else None)},
        "address": stands_for.get(("address",)),
        "after": {name: stands_for.get(("after", name), value) for name, value in change.after.items()},
        "at": datetime.now(UTC),
        "before": {name: stands_for.get(("before", name), value) for name, value in change.before.items()},
        "request_id": actor.request_id,
        "subject": {"kind": change.kind, "id": stands_for.get(("subject",), change.id.hex if change.id else None)},
    }
    await store.append(session, new_id(), msgspec.json.encode(event, order="deterministic").decode())


class AuditLog:
    """For what is no change in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, tenant_id: UUID, actor: Actor, change: Change) -> None:
        """Raises: DatabaseUnavailable."""
        async with self._database.tenant(tenant_id) as session:
            await record(session, tenant_id, actor, change)


async def _stand_ins(
    session: AsyncSession, tenant_id: UUID, personal: dict[tuple[str, ...], Personal]
) -> dict[tuple[str, ...], str]:
    values = list(dict.fromkeys(personal.values()))
    if not values:
        return {}
    known = await store.pseudonyms(session, tenant_id, values, [new_id() for _ in values])
    return {place: f"{PSEUDONYM}{known[value].hex}" for place, value in personal.items()}
