"""Limits on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from app.ids import encode_id
from app.limits.model import PREFIXES, SetLimit
from plugins.contract.limits import LimitScope

Rate = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
"""More requests than any number of replicas answer in a minute."""
TokenRate = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
"""A thousand of the longest contexts for each of them; sums stay exact in Lua's numbers (2^53)."""


class LimitPut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Null, or left out: no limit. `tenant_id` is for the platform administrator, and needed by nobody."""

    scope: LimitScope
    scope_id: str
    requests_per_minute: Rate | None = None
    tokens_per_minute: TokenRate | None = None
    max_concurrency: Rate | None = None
    """Model calls at once."""
    tenant_id: str | None = None


PUT_EXAMPLES = {
    "of a key": {
        "scope": "key",
        "scope_id": "key_0190b3e28c6f7b3a9a52d7f8f1a4c9e1",
        "requests_per_minute": 600,
        "tokens_per_minute": 200_000,
        "max_concurrency": 8,
    },
    "none any more": {"scope": "user", "scope_id": "user_0190b3e28c6f7b3a9a52d7f8f1a4c9e1"},
}


class LimitOut(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as it is now: all null is none."""

    scope: LimitScope
    scope_id: str
    tenant_id: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrency: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, limit: SetLimit) -> LimitOut:
        return cls(
            scope=limit.scope,
            scope_id=encode_id(PREFIXES[limit.scope], limit.scope_id),
            tenant_id=encode_id("ten", limit.tenant_id),
            requests_per_minute=limit.allowance.requests_per_minute,
            tokens_per_minute=limit.allowance.tokens_per_minute,
            max_concurrency=limit.allowance.max_concurrency,
            created_at=limit.created_at,
            updated_at=limit.updated_at,
        )
