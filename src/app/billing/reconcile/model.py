"""The words of this room: *ours* is the ledger's, *theirs* the vendor's. Money is whole nano-dollars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal, NamedTuple

import msgspec

from plugins.contract.errors import WattosError

Field = Literal["requests", "input_tokens", "output_tokens", "cost_nusd"]
FIELDS: tuple[Field, ...] = ("requests", "input_tokens", "output_tokens", "cost_nusd")

State = Literal["equal", "explained", "differs"]
"""`explained`: theirs is more than is known here, by no more than was estimated."""


class Unreadable(WattosError):
    """A file that is no usage export: file, line, what is wrong, how to mend it."""

    code = "unreadable_export"


class Place(NamedTuple):
    """What is compared. `model`: without its vendor and without the date of a snapshot."""

    day: date
    """UTC."""
    model: str


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    requests: int = 0
    input_tokens: int = 0
    """Those read from and written to caches among them."""
    output_tokens: int = 0
    cost_nusd: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{name: getattr(self, name) + getattr(other, name) for name in FIELDS})

    def of(self, field: Field) -> int:
        value: int = getattr(self, field)
        return value


NOTHING = Totals()


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's file. `fields`: what it tells; the others are 0, and nothing is said of them."""

    kind: str
    provider: str | None
    """Whose file it is, where it shows."""
    fields: tuple[Field, ...]
    totals: Mapping[tuple[date, str], Totals]
    """By day and model, as the vendor writes it."""


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """`known`: told by the target. `estimated`: counted here, cancelled on the way, or without a known end."""

    known: Totals = NOTHING
    estimated: Totals = NOTHING
    unpriced: int = 0
    """Calls without a price: they are missing in the cost."""

    def __add__(self, other: Ours) -> Ours:
        return Ours(
            known=self.known + other.known,
            estimated=self.estimated + other.estimated,
            unpriced=self.unpriced + other.unpriced,
        )
