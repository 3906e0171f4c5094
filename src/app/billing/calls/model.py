"""Which calls are read."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import msgspec

from app.billing.model import Outcome


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Days are UTC, both included. What is None does not matter."""

    since: date | None = None
    until: date | None = None
    model: str | None = None
    outcome: Outcome | None = None
    key_id: UUID | None = None

    @property
    def begins(self) -> datetime | None:
        return None if self.since is None else _midnight(self.since)

    @property
    def ends(self) -> datetime | None:
        """The first moment that is not among them."""
        if self.until is None or self.until == date.max:
            return None
        return _midnight(self.until + timedelta(days=1))


def first_id(moment: datetime) -> UUID:
    """No call of that moment or later has a smaller one: ids are UUIDv7."""
    return UUID(int=max(0, round(moment.timestamp() * 1000)) << 80)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
