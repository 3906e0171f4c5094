"""This replica's share of one limit: what it may let in on its own, and what of that is used.

Shares of all replicas together are never more than the limit, and no replica uses more than its own; so the limit holds
without anybody being asked. How shares move from one replica to another is `leases`' business.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

LimitKind = Literal["requests", "tokens", "concurrency"]
Scope = Literal["tenant", "user", "key", "address"]

WINDOW_S: Final = 60
KEPT_S: Final = 1 + WINDOW_S + 0.25
"""A second's units count until the minute after its end, so that no 60 s ever hold more than the share; and a quarter
second longer, as clients measure by when answers reach them."""

SMALL: Final = 60
"""Smaller limits are lent by the unit at the end: a quarter of one replica's part would be none."""


class Tally:
    """Decisions of one kind and scope since they were last told."""

    __slots__ = ("allowed", "kind", "refused", "scope")

    def __init__(self, kind: LimitKind, scope: Scope) -> None:
        self.kind: LimitKind = kind
        self.scope: Scope = scope
        self.allowed = 0
        self.refused = 0


class Bucket:
    """What was used within one second of the monotonic clock."""

    __slots__ = ("ends_s", "units")

    def __init__(self, ends_s: float, units: int) -> None:
        self.ends_s = ends_s
        """Until when it counts."""
        self.units = units


class Share:
    """Of a limit of units a minute. For one event loop; nothing waits. Times are monotonic seconds."""

    __slots__ = (
        "__weakref__",
        "answered_at_s",
        "buckets",
        "epoch",
        "first_ends_s",
        "idle_elsewhere",
        "key",
        "kind",
        "limit",
        "missed",
        "pool",
        "scope",
        "share",
        "tally",
        "told",
        "told_at_s",
        "unmet_elsewhere",
        "used",
        "used_at_s",
        "waiting",
    )

    def __init__(self, key: str, limit: int, tally: Tally, *, share: int = 0) -> None:
        self.key = key
        self.kind: LimitKind = tally.kind
        self.scope: Scope = tally.scope
        self.limit = limit
        self.tally = tally
        self.share: int = share
        """What may be used here. Below `used` where it was taken back, or calls took more tokens than expected."""
        self.used: int = 0
        self.used_at_s = 0.0
        self.waiting: int = 0
        """Units that requests wait for now."""
        self.missed = 0
        """Units that were refused since the others were last asked for some."""
        self.pool = 0
        """As of the last answer: nobody's share."""
        self.idle_elsewhere = 0
        """As of the last answer: in others' shares, and not used."""
        self.unmet_elsewhere = 0
        """As of the last answer: what others would have liked and did not get."""
        self.answered_at_s = float("-inf")
        self.told_at_s = float("-inf")
        self.told: tuple[int, int, int] = (0, 0, 0)
        """What the others were last told: held, used, wanted."""
        self.epoch = 0
        self.buckets: deque[Bucket] = deque()
        self.first_ends_s = float("inf")

    @property
    def held(self) -> int:
        """What the others must leave to us."""
        return max(self.share, self.used)

    def room(self, now_s: float) -> int:
        """Units that may be used now; negative where more is used already."""
        if self.first_ends_s <= now_s:
            self.expire(now_s)
        return self.share - self.used

    def take(self, units: int, now_s: float) -> Bucket | None:
        """Use so much, room or not."""
        self.used += units
        self.used_at_s = now_s
        ends_s = now_s // 1 + KEPT_S
        buckets = self.buckets
        if buckets and buckets[-1].ends_s >= ends_s:
            buckets[-1].units += units
            return buckets[-1]
        bucket = Bucket(ends_s, units)
        buckets.append(bucket)
        if len(buckets) == 1:
            self.first_ends_s = ends_s
        return bucket

    def correct(self, bucket: Bucket | None, difference: int, now_s: float) -> None:
        """What was taken was so much more, or less. More may be more than the share: it was used."""
        if bucket is not None and bucket.ends_s > now_s:
            bucket.units += difference
            self.used += difference

    def expire(self, now_s: float) -> None:
        buckets = self.buckets
        while buckets and buckets[0].ends_s <= now_s:
            self.used -= buckets.popleft().units
        self.first_ends_s = buckets[0].ends_s if buckets else float("inf")

    def room_in_s(self, units: int, now_s: float) -> float | None:
        """How long until so much may be used here, if shares stay; None: they must not."""
        missing = units - self.room(now_s)
        for bucket in self.buckets:
            if missing <= 0:
                break
            missing -= bucket.units
            if missing <= 0:
                return bucket.ends_s - now_s
        return 0.0 if missing <= 0 else None

    def reset_s(self, now_s: float) -> float:
        """How long until nothing is used, if nothing more is."""
        return max(0.0, self.buckets[-1].ends_s - now_s) if self.buckets else 0.0

    def remaining(self, now_s: float) -> int:
        """Units left of the whole limit, as far as is known here."""
        return min(self.limit - self.used, max(0, self.room(now_s)) + self.pool + self.idle_elsewhere)

    def cushion(self, n_replicas: int) -> int:
        """Units beyond what is used that spare asking: fewer as the pool empties, none while others go short."""
        if self.unmet_elsewhere:
            return 0
        free = self.pool + max(0, self.share - self.used)
        part = free // (4 * n_replicas)
        return 1 if part == 0 and self.limit < SMALL and free >= 2 * n_replicas else part

    def note_peak(self, now_s: float) -> None:
        """What was in use, for shares that do not remember it."""


class Slots(Share):
    """Of a limit of calls at once."""

    __slots__ = ("peak", "peak_before", "peak_since_s")

    def __init__(self, key: str, limit: int, tally: Tally, *, share: int = 0) -> None:
        super().__init__(key, limit, tally, share=share)
        self.peak: int = 0
        self.peak_before: int = 0
        self.peak_since_s = 0.0

    def take(self, units: int, now_s: float) -> Bucket | None:
        self.used += units
        self.used_at_s = now_s
        self.peak = max(self.peak, self.used)
        return None

    def give_back(self) -> None:
        self.used -= 1

    def room_in_s(self, units: int, now_s: float) -> float | None:
        return None  # nobody knows when a call ends

    def cushion(self, n_replicas: int) -> int:
        """As many as were in use at once lately: should the others be away soon, they are here."""
        if self.unmet_elsewhere:
            return 0
        return max(super().cushion(n_replicas), max(self.peak, self.peak_before) - self.used)

    def note_peak(self, now_s: float) -> None:
        if now_s - self.peak_since_s >= WINDOW_S:
            self.peak_before, self.peak, self.peak_since_s = self.peak, self.used, now_s
