"""Reading the audit log: pseudonyms stand for who they stand for, unless the person was erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec

from app.audit import store
from app.audit.model import AuditEvent
from app.audit.record import PSEUDONYM
from app.audit.store import Stored
from app.database.engine import Database
from app.database.paging import Rows

ERASED = "erased"
"""What is shown in the place of who was erased."""


class AuditService:
    """One tenant's events at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(self, tenant_id: UUID, *, limit: int, after: UUID | None, action: str | None) -> Rows[AuditEvent]:
        """Newest first."""
        async with self._database.tenant(tenant_id) as session:
            stored = await store.page(session, tenant_id, limit=limit, after=after, action=action)
            payloads = [msgspec.json.decode(one.payload) for one in stored]
            wanted = {UUID(hex=text.removeprefix(PSEUDONYM)) for text in _pseudonyms_in(payloads)}
            known = await store.resolved(session, tenant_id, wanted)
        stands_for = {f"{PSEUDONYM}{pseudonym.hex}": value for pseudonym, value in known.items()}
        shown = [_event(one, _shown(payload, stands_for)) for one, payload in zip(stored, payloads, strict=True)]
        return Rows[AuditEvent].cut(shown, limit)


def _pseudonyms_in(value: Any) -> set[str]:
    inner: Sequence[Any] = ()
    if isinstance(value, dict):
        inner = [*cast("dict[str, Any]", value).values()]
    elif isinstance(value, list):
        inner = cast("Sequence[Any]", value)
    if inner:
        return set[str]().union(*map(_pseudonyms_in, inner))
    return {value} if isinstance(value, str) and value.startswith(PSEUDONYM) else set()


def _shown(value: Any, stands_for: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _shown(inner, stands_for) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_shown(inner, stands_for) for inner in cast("Sequence[Any]", value)]
    return stands_for.get(value, ERASED) if isinstance(value, str) and value.startswith(PSEUDONYM) else value


def _event(stored: Stored, payload: dict[str, Any]) -> AuditEvent:
    return msgspec.convert({**payload, "id": stored.id, "sequence": stored.sequence}, AuditEvent)
