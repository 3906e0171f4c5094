"""Prices in versions, as the rules see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from app.llm.prices import Price

FOREVER = datetime.max.replace(tzinfo=UTC)


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant pays at one target from a moment on, until the next version. `price` None: as everybody."""

    id: UUID
    tenant_id: UUID
    target: str
    price: Price | None
    valid_from: datetime
    created_at: datetime


class PriceSchedule:
    """A tenant's versions, those of the future among them: which holds is asked with every call."""

    def __init__(self, versions: Sequence[PriceVersion]) -> None:
        self._versions = sorted(versions, key=lambda one: (one.valid_from, one.id))
        self.has_versions = bool(versions)
        self._prices: Mapping[str, Price] = {}
        self._from = self._until = FOREVER

    def at(self, moment: datetime) -> Mapping[str, Price]:
        """By target. Made anew when another version begins, else the same object."""
        if not self._from <= moment < self._until:
            begun = [one for one in self._versions if one.valid_from <= moment]
            # Of two that begin together the one that was set later holds.
            held = {one.target: one.price for one in begun}
            self._prices = {target: price for target, price in held.items() if price is not None}
            self._from = begun[-1].valid_from if begun else datetime.min.replace(tzinfo=UTC)
            self._until = self._versions[len(begun)].valid_from if len(begun) < len(self._versions) else FOREVER
        return self._prices
