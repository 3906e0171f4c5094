"""What a completion request asks for, once read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.llm.caching import NO_WISH, CacheWish
from app.llm.routing import NO_WISHES, Wishes

Prompt = str | list[str | int | list[int]]
"""A text, texts, the tokens of one, or of several."""


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `fields` is the client's body without our extensions, values untouched."""

    model: str
    fields: Mapping[str, msgspec.Raw]
    stream: bool = False
    include_usage: bool = False
    wishes: Wishes = NO_WISHES
    cache: CacheWish = NO_WISH
    deadline_s: float | None = None
    """Of the event loop's clock: the caller's own."""
