"""A limit as the rules see it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from app.errors import NotFound
from app.ids import Prefix, decode_id
from plugins.contract.limits import LimitScope

PREFIXES: dict[LimitScope, Prefix] = {"tenant": "ten", "user": "user", "key": "key"}
"""Of the ids of whom a limit is for."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """None: as much as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None


class SetLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force for one tenant, user or key."""

    tenant_id: UUID
    scope: LimitScope
    scope_id: UUID
    allowance: Allowance
    created_at: datetime
    updated_at: datetime


def scope_id_of(text: str) -> UUID:
    """Of whichever scope. Raises: NotFound."""
    for prefix in PREFIXES.values():
        if text.startswith(f"{prefix}_"):
            return decode_id(prefix, text)
    raise NotFound("no limit with this id")
