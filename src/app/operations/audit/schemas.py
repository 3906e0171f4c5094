"""The audit log on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

import msgspec

from app.audit.model import Action, AuditEvent
from app.ids import Prefix, encode_id
from app.operations.audit.service import ERASED

ACTIONS: frozenset[str] = frozenset(get_args(Action))


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` of an actor: user, key, platform, anonymous; of what was changed: user, key, tenant, … `id` may be
    `erased`."""

    kind: str
    id: str | None


class AuditEventOut(msgspec.Struct, frozen=True, kw_only=True):
    """`before` and `after`: the fields that changed, never a secret."""

    id: str
    sequence: int
    at: datetime
    action: str
    actor: Who
    subject: Who
    address: str | None
    request_id: str | None
    before: dict[str, Any]
    after: dict[str, Any]

    @classmethod
    def of(cls, event: AuditEvent) -> AuditEventOut:
        return cls(
            id=encode_id("evt", event.id),
            sequence=event.sequence,
            at=event.at,
            action=event.action,
            actor=_who(event.actor),
            subject=_who(event.subject),
            address=event.address,
            request_id=event.request_id,
            before=event.before,
            after=event.after,
        )


_PREFIXES: dict[str, Prefix] = {
    "user": "user",
    "key": "key",
    "tenant": "ten",
    "provider_key": "pkey",
    "provider": "prov",
    "file": "file",
    "vector_store": "vs",
}


def _who(given: dict[str, Any]) -> Who:
    """With ids as clients know them."""
    digits, prefix = given["id"], _PREFIXES.get(given["kind"])
    if digits is None or digits == ERASED or prefix is None:
        return Who(kind=given["kind"], id=digits)
    return Who(kind=given["kind"], id=f"{prefix}_{digits}")
