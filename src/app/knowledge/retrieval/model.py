"""What a search finds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.grounding import Passage


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A passage, and the attributes of its file in the store where it was found."""

    passage: Passage
    attributes: Mapping[str, str | float | bool]
