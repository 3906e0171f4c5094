"""Tags that were dropped: ours, until Valkey knows of them, and the others', heard of once a beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from plugins.cache.valkey_level import News, ValkeyLevel
from plugins.contract.errors import RetryableError

MAX_UNTOLD = 10_000
"""Of an hour's outage: 1 MB. With more, all that has tags is dropped instead."""

AT_ONCE = 500
"""Told in one script: 1 ms, in which Valkey does nothing else."""


class Drops:
    """For one replica. `on_drop` takes a tag, or None for all, out of its memory."""

    def __init__(self, valkey: ValkeyLevel, on_drop: Callable[[str | None], None]) -> None:
        self._valkey = valkey
        self._on_drop = on_drop
        self._telling: Counter[str] = Counter()
        """How many are about to tell Valkey."""
        self._untold: dict[str, None] = {}
        """That could not be told."""
        self._all_untold = False
        self._known = News()
        self.n_seen = 0
        """Grows with each drop. What was asked for before one may be from before it."""

    async def drop(self, tag: str) -> None:
        """Never given again here, from now on; by the others as soon as they hear of it."""
        self._seen(tag)
        self._telling[tag] += 1
        is_told = False
        try:
            is_told = await self._valkey.drop([tag])
        finally:
            self._telling[tag] -= 1
            if not self._telling[tag]:
                del self._telling[tag]
            if not is_told:
                self._untold[tag] = None
                if len(self._untold) > MAX_UNTOLD:
                    self._all_untold = True
                    self._untold.clear()

    def is_known_to_valkey(self, tags: Sequence[str]) -> bool:
        """Whether what Valkey gives under these tags is what it should."""
        return not tags or not (self._all_untold or any(tag in self._untold or tag in self._telling for tag in tags))

    async def beat(self) -> None:
        """Tell and hear. Valkey is used again once this was answered, and not before. Raises: RetryableError."""
        while self._all_untold or self._untold:
            if not await self._told():
                break  # it refuses: what it gives under these tags stays a miss
        news = await self._valkey.hear(self._known)
        if news.missed:
            if news.epoch == self._known.epoch and news.n_drops < self._known.n_drops:
                # An old state of this epoch, as from a backup: its entries and numbers are not to be trusted.
                await self._valkey.tell(None)
                news = News(n_drops=0)
            self._seen(None)
        for tag in news.tags:
            self._seen(tag)
        self._known = news
        if self._valkey.is_away:
            self._valkey.recovered()

    async def try_beat(self) -> None:
        """A failure is an answer, too: nobody else need find out."""
        try:
            await self.beat()
        except RetryableError:
            self._valkey.is_away = True

    async def _told(self) -> bool:
        if self._all_untold:
            told = await self._valkey.tell(None)
            self._all_untold = self._all_untold and not told
            return told
        some = list(islice(self._untold, AT_ONCE))
        told = await self._valkey.tell(some)
        if told:
            for tag in some:
                self._untold.pop(tag, None)
        return told

    def _seen(self, tag: str | None) -> None:
        self.n_seen += 1
        self._on_drop(tag)
