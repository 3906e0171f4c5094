"""Cursor pages: one shape for `/v1` (OpenAI's) and `/api/v1`.

The cursor `after` is the last id of the page before; `app.database.paging` asks for what follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from litestar.params import QueryParameter

T = TypeVar("T")

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most.")]


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page. With `has_more`, ask again with `after` = `last_id`."""

    data: Sequence[T]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


def page(items: Sequence[T], ids: Sequence[str], *, has_more: bool) -> Page[T]:
    """`ids` belong to `items`, in order."""
    return Page(data=items, has_more=has_more, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None)
