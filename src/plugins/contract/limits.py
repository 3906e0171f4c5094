"""Limits as both sides know them: the app keeps them, the security plugin holds callers to them."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

LimitScope = Literal["tenant", "user", "key"]


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one tenant, user or key may use. None: as much as it likes."""

    scope: LimitScope
    scope_id: UUID
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None
    """Model calls at once, streams until their end."""
