"""Cursor pages: one shape for `/v1` (OpenAI's) and `/api/v1`.

Ids are UUIDv7, so their order is the order of creation; the cursor `after` is the last id of the page before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from litestar.params import Parameter

T = TypeVar("T")

Limit = Annotated[int, Parameter(ge=1, le=100, description="How many at most.")]
Order = Literal["asc", "desc"]

DEFAULT_LIMIT = 20


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a store needs: the next `limit` rows after `after`, in `order` of creation."""

    limit: int = DEFAULT_LIMIT
    after: UUID | None = None
    order: Order = "desc"


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page. With `has_more`, ask again with `after` = `last_id`."""

    data: Sequence[T]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


class Rows(msgspec.Struct, Generic[T], frozen=True):
    """What a store gives back: at most `limit` items, and whether there are more."""

    items: list[T]
    has_more: bool

    @classmethod
    def cut(cls, found: Sequence[T], limit: int) -> Rows[T]:
        """From `limit + 1` rows asked for."""
        return cls(list(found[:limit]), len(found) > limit)


def page(items: Sequence[T], ids: Sequence[str], *, has_more: bool) -> Page[T]:
    """`ids` belong to `items`, in order."""
    return Page(data=items, has_more=has_more, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None)
