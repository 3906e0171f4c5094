"""Keyset pages: one way to ask for the next rows after an id. The wire's shape of a page is in `app.http.pages`.

Ids are UUIDv7, so their order is the order of creation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, Self, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

T = TypeVar("T")
S = TypeVar("S", bound=Select[*tuple[Any, ...]])

Order = Literal["asc", "desc"]

DEFAULT_LIMIT = 20
"""OpenAI's own for most of its lists."""


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The next `limit` rows after the one with the id `after`, in `order` of creation."""

    limit: int = DEFAULT_LIMIT
    after: UUID | None = None
    order: Order = "desc"


class Rows(msgspec.Struct, Generic[T], frozen=True):
    """What a store gives back: at most `limit` items, and whether there are more."""

    items: list[T]
    has_more: bool

    @classmethod
    def cut(cls, found: Sequence[T], limit: int) -> Self:
        """From the `limit + 1` rows that `keyset` asks for."""
        return cls(list(found[:limit]), len(found) > limit)


def keyset(statement: S, column: InstrumentedAttribute[UUID], wanted: PageRequest) -> S:
    """The statement for one page by `column`, and one row more, which tells whether there is a next."""
    is_descending = wanted.order == "desc"
    statement = statement.order_by(column.desc() if is_descending else column)
    if wanted.after is not None:
        statement = statement.where(column < wanted.after if is_descending else column > wanted.after)
    return statement.limit(wanted.limit + 1)
