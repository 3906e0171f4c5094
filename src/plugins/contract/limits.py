"""Limits as both sides know them: the app keeps them, the security plugin holds callers to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


class LimitState(msgspec.Struct, frozen=True, gc=False):
    """How one limit stands. `reset_s`: until nothing of it is used, if nothing more is."""

    unit: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_s: float


def rate_headers(states: Sequence[LimitState]) -> dict[str, str]:
    """`x-ratelimit-…` as OpenAI's. `states`: of each unit one."""
    headers: dict[str, str] = {}
    for state in states:
        unit = state.unit
        headers[f"x-ratelimit-limit-{unit}"] = str(state.limit)
        headers[f"x-ratelimit-remaining-{unit}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{unit}"] = _shown(state.reset_s)
    return headers


def _shown(seconds: float) -> str:
    """`12s`, `1m3s`."""
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
