"""What all routes that call a model do alike: read the request's own wishes, and tell how its answer came about."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.errors import InvalidRequest
from app.http.body import read_field
from app.http.trail import trail_headers
from app.llm.answers import Completed, Embedded, Streamed
from app.llm.caching import NO_WISH, CacheWish
from app.llm.routing import NO_WISHES, Wishes

MAX_FALLBACKS = 10
"""Aliases in one request: each may be asked, one after the other."""

WISHES = frozenset({"fallbacks", "disable_fallbacks", "x_wattos_seam", "cache"})
"""Fields that are ours: no vendor sees them."""


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool = False


class _Fallback(msgspec.Struct, frozen=True):
    """LiteLLM's clients send objects with `model`, too."""

    model: str


def wishes_of(fields: Mapping[str, msgspec.Raw]) -> Wishes:
    """Raises: InvalidRequest naming the field."""
    if "fallbacks" not in fields and "disable_fallbacks" not in fields:
        return NO_WISHES
    given = read_field(fields, "fallbacks", list[str | _Fallback])
    names = None if given is None else tuple(one if isinstance(one, str) else one.model for one in given)
    if names and len(names) > MAX_FALLBACKS:
        raise InvalidRequest(f"at most {MAX_FALLBACKS} fallbacks", param="fallbacks")
    return Wishes(fallbacks=names, disable_fallbacks=read_field(fields, "disable_fallbacks", bool) or False)


def cache_wish_of(fields: Mapping[str, msgspec.Raw]) -> CacheWish:
    """Raises: InvalidRequest naming the field."""
    return NO_WISH if "cache" not in fields else read_field(fields, "cache", CacheWish) or NO_WISH


def wants_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Raises: InvalidRequest."""
    options = read_field(fields, "stream_options", StreamOptions)
    return options is not None and options.include_usage


def trail_of(answered: Completed | Streamed | Embedded, cost_nusd: int | None) -> dict[str, str]:
    """Headers. `cost_nusd` None: not known yet."""
    return trail_headers(
        target=answered.target.id,
        attempts=answered.attempts,
        cost_nusd=cost_nusd,
        cache=answered.cache,
        saved_nusd=answered.saved_nusd,
    )
