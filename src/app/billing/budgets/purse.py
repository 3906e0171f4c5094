"""What this process may spend of one budget's period: arithmetic alone, no clock and no database.

granted     what the database has lent, and not seen spent yet
in flight   what calls under way have reserved
unmoved     what calls that are over have cost, and the database has not entered yet
free        granted − in flight − unmoved; below zero once calls cost more than they had reserved
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from app.billing.budgets.model import Budget

AHEAD_S = 120.0
"""How long lent money lasts at the pace of late, where there is enough: without the database calls go on with it."""

MIN_AGE_S = 5.0
"""One call is no pace yet: what a purse reserves in its first seconds is taken for as many seconds' worth."""

SHARE = 20
"""Of what is left, one in so many is lent ahead at once: `lease_budget()`."""

MOST_NUSD = 2 * 10**18
"""More than any budget has, and less than what the database's numbers hold."""


class Purse(msgspec.Struct, kw_only=True, eq=False):
    """Amounts in nano-dollars."""

    budget: Budget
    period_start: datetime
    granted_nusd: int = 0
    in_flight_nusd: int = 0
    n_in_flight: int = 0
    """Calls, those that reserved nothing included."""
    unmoved_nusd: int = 0
    left_nusd: int = 0
    """What the database could still lend when it was last asked."""
    asked_at_s: float = float("-inf")
    """When that was."""
    began_at_s: float | None = None
    """When money was first reserved."""
    used_at_s: float = float("-inf")
    """When money was last reserved."""
    reserved_lately_nusd: int = 0
    """In about the last `AHEAD_S`."""
    waiting: list[int] = msgspec.field(default_factory=list)
    """What calls that wait for money need, each."""

    @property
    def free_nusd(self) -> int:
        return self.granted_nusd - self.kept_nusd

    @property
    def kept_nusd(self) -> int:
        """What cannot be given back: calls have reserved it, or spent it."""
        return self.in_flight_nusd + self.unmoved_nusd

    @property
    def is_empty(self) -> bool:
        return not (self.kept_nusd or self.n_in_flight or self.waiting)

    def has(self, needed_nusd: int) -> bool:
        """A call that costs nothing needs no money, even where too much was spent."""
        return needed_nusd == 0 or self.free_nusd >= needed_nusd

    def reserve(self, needed_nusd: int, now_s: float) -> None:
        self.in_flight_nusd += needed_nusd
        self.n_in_flight += 1
        self.reserved_lately_nusd += needed_nusd
        self.used_at_s = now_s
        if self.began_at_s is None:
            self.began_at_s = now_s

    def settle(self, reserved_nusd: int, cost_nusd: int) -> None:
        """The call is over, and its entry is in the journal."""
        self.in_flight_nusd -= reserved_nusd
        self.n_in_flight -= 1
        self.unmoved_nusd += cost_nusd

    def lent(self, granted_nusd: int, left_nusd: int, now_s: float) -> None:
        """The database's answer."""
        self.granted_nusd, self.left_nusd, self.asked_at_s = granted_nusd, left_nusd, now_s

    def renewed(self, granted_nusd: int, after_s: float) -> None:
        """The database's answer of what is lent still, so long after the last one."""
        self.granted_nusd = granted_nusd
        self.reserved_lately_nusd = int(self.reserved_lately_nusd * max(0.0, 1 - after_s / AHEAD_S))

    @property
    def is_short(self) -> bool:
        """Calls cost more than they had reserved, or what is free lasts less than half as long as it should."""
        return self.free_nusd < min(self.ahead_nusd // 2, self.left_nusd // SHARE)

    @property
    def ahead_nusd(self) -> int:
        """What lasts for `AHEAD_S` at the pace of late, which of a young purse is known from a few seconds."""
        if self.began_at_s is None:
            return 0
        age_s = max(MIN_AGE_S, min(AHEAD_S, self.used_at_s - self.began_at_s))
        return int(self.reserved_lately_nusd * (AHEAD_S / age_s))

    def asks_nusd(self) -> tuple[int, int, int]:
        """What is needed for all that waits, the least that is of any use, and what would be welcome."""
        short = -self.free_nusd
        needed = min(max(0, sum(self.waiting) + short), MOST_NUSD)
        smallest = max(0, min(self.waiting, default=0) + short)
        return needed, min(smallest, needed), min(needed + self.ahead_nusd, MOST_NUSD)
