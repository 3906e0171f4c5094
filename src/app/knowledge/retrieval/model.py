"""What a search finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from app.grounding import Passage, RetrievalMode


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A passage, and the attributes of its file in the store where it was found."""

    passage: Passage
    attributes: Mapping[str, str | float | bool]


class Found(msgspec.Struct, frozen=True):
    """Hits, best first, and how they were found."""

    hits: Sequence[Hit]
    mode: RetrievalMode
