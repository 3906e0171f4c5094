"""What a chain gives back: the answer, and how it came about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, Literal, TypeVar

import msgspec

from app.llm.accounting import Account
from app.llm.attempts import Attempts
from app.llm.model import Events, Reply, Target, Vectors
from app.llm.places import Place

T = TypeVar("T")

CacheState = Literal["hit", "miss", "off"]
"""Given again, asked for in vain, or not asked for. Of a hit `saved_nusd` is what it cost when it was made."""


class Served(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a target gave. `rest`: the targets that were not asked."""

    value: T
    target: Target
    rest: tuple[Target, ...]
    attempts: Attempts
    began_s: float
    """Monotonic: when the first target was asked."""
    account: Account
    place: Place
    """To be given back when a stream ends."""


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer and its trail. `attempts` counts the calls that were really sent, to all targets together."""

    reply: Reply
    target: Target
    attempts: int
    cost_nusd: int | None
    cache: CacheState = "off"
    saved_nusd: int | None = None


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """A stream whose first token is there. Close `pieces` early and the target's connection is closed."""

    pieces: AsyncIterator[Events]
    target: Target
    attempts: int
    cache: CacheState = "off"
    saved_nusd: int | None = None


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors and their trail."""

    vectors: Vectors
    target: Target
    attempts: int
    cost_nusd: int | None
    cache: CacheState = "off"
    saved_nusd: int | None = None
