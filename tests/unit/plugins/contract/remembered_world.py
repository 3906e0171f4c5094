"""Answers in memory, with a clock, a database and a feed of changes that a test turns by hand."""

from __future__ import annotations

from collections.abc import Callable

from plugins.contract.principal import Identity, Principal
from plugins.contract.remembered import Remembered
from unit.plugins.harness import FakeClock, FakeIdentityLookup

RECORD = Identity(principal=Principal(tenant_id=None))
REVOKED = Identity(principal=Principal(tenant_id=None), revoked=True)


class Feed:
    """A `ChangeFeed` that was heard from `since_s` to `until_s`."""

    def __init__(self) -> None:
        self.since_s = float("inf")
        self.until_s = float("-inf")
        self.left_alone_until_s = float("-inf")
        self.tell: Callable[[bytes], None] = lambda handle: None

    def subscribe(self, on_change: Callable[[bytes], None]) -> None:
        self.tell = on_change

    def vouched_until(self, asked_at_s: float) -> float:
        return max(asked_at_s, self.until_s) if asked_at_s >= self.since_s else asked_at_s


def cached(
    lookup: FakeIdentityLookup,
    clock: FakeClock,
    *,
    feed: Feed | None = None,
    max_entries: int = 100,
    timeout_s: float = 5.0,
    max_stale_s: float = 0.0,
) -> Remembered[Identity]:
    return Remembered(
        lookup.find,
        feed or Feed(),
        max_age_s=1.0,
        max_stale_s=max_stale_s,
        max_entries=max_entries,
        timeout_s=timeout_s,
        clock=clock,
    )
