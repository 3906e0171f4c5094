"""Events of the audit log, and who is behind one."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from plugins.contract.principal import Principal

PLATFORM_CHAIN = UUID(int=0)
"""Whose chain holds what concerns no tenant. No tenant has this id."""

NOBODY = UUID(int=0)
"""The person behind a pseudonym when it is of none that we know."""

ActorKind = Literal["user", "key", "platform", "anonymous"]

Action = Literal[
    "tenant.created",
    "tenant.updated",
    "user.created",
    "user.updated",
    "user.deleted",
    "user.erased",
    "key.created",
    "key.revoked",
    "provider_key.set",
    "provider_key.deleted",
    "limit.set",
    "budget.created",
    "budget.updated",
    "budget.deleted",
    "price.set",
    "sign_in.succeeded",
    "sign_in.failed",
    "session.revoked",
    "session.replayed",
    "models.reloaded",
    "breaker.reset",
    "breaker.forced",
    "file.created",
    "file.deleted",
    "vector_store.created",
    "vector_store.updated",
    "vector_store.deleted",
    "vector_store.file_added",
    "vector_store.file_removed",
]

PERSONAL = frozenset({"email", "name", "external_id", "user_id", "address"})
"""Fields that may tell who a person is: in events a pseudonym stands for their values."""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something, from where, with which request."""

    kind: ActorKind
    id: UUID | None = None
    """Of the user or the key."""
    address: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, principal: Principal | None, address: str | None, request_id: str | None) -> Actor:
        """A user's key acts as that key; a person who signed in, as that user."""
        if principal is None:
            return cls(kind="anonymous", address=address, request_id=request_id)
        if principal.key_id is not None:
            return cls(kind="key", id=principal.key_id, address=address, request_id=request_id)
        if principal.user_id is not None:
            return cls(kind="user", id=principal.user_id, address=address, request_id=request_id)
        return cls(kind="platform", address=address, request_id=request_id)


COMMAND_LINE = Actor(kind="platform")
"""Whoever runs `wattos …`."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to what. `before` and `after`: the fields that changed, never a secret."""

    action: Action
    kind: str
    """Of the thing: `user`, `key`, …"""
    id: UUID | None = None
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it is read: pseudonyms are resolved, or None once the person is erased."""

    id: UUID
    sequence: int
    at: datetime
    action: str
    actor: dict[str, Any]
    subject: dict[str, Any]
    address: str | None
    request_id: str | None
    before: dict[str, Any]
    after: dict[str, Any]
