"""What is told of a hit: the savings by target, and a word in the request's own log line."""

from __future__ import annotations

from app.llm.model import Target
from app.llm.prices import NUSD_PER_USD
from plugins.contract.ports import Meter
from plugins.contract.work import noted


class Savings:
    """What answers cost when they were made."""

    def __init__(self, meter: Meter) -> None:
        self._saved = meter.counter(
            "llm_saved_usd", "What answers from the cache cost when a target gave them, in US dollars.", ("target",)
        )

    def hit(self, target: Target, saved_nusd: int | None) -> None:
        """`saved_nusd` None: nobody knows."""
        self._saved.add((saved_nusd or 0) / NUSD_PER_USD, target.known_as)
        noted("llm", {"target": target.id, "attempts": 0, "outcome": "cached", "savedNusd": saved_nusd})
