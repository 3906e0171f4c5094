"""Keys that another replica has long been producing for: whoever has waited for it once need not do so again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FOR_S: Final = 60.0
"""Six times as long as was waited: of a producer that hangs for ten minutes each key costs that many waits at most."""


class Hung:
    """As many as were waited for in vain in the last minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._until_s: dict[str, float] = {}
        """In the order in which they end."""

    def add(self, key: str) -> None:
        now_s = self._clock()
        self._until_s.pop(key, None)
        for other in list(self._until_s):
            if self._until_s[other] > now_s:
                break
            del self._until_s[other]
        self._until_s[key] = now_s + FOR_S

    def has(self, key: str) -> bool:
        until_s = self._until_s.get(key)
        return until_s is not None and until_s > self._clock()
