"""What all routes that call a model do alike: read the request's own wishes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.errors import InvalidRequest
from app.http.body import read_field
from app.llm.routing import NO_WISHES, Wishes

MAX_FALLBACKS = 10
"""Aliases in one request: each may be asked, one after the other."""

WISHES = frozenset({"fallbacks", "disable_fallbacks", "x_wattos_seam"})
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


def wants_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Raises: InvalidRequest."""
    options = read_field(fields, "stream_options", StreamOptions)
    return options is not None and options.include_usage
