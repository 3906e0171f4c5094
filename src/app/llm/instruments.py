"""What is counted of model calls. Labels are target ids: as many as the configuration names, no more."""

from __future__ import annotations

import logging

from app.llm.model import Usage
from app.llm.prices import NUSD_PER_USD
from plugins.contract.ports import Meter

logger = logging.getLogger("llm")

DURATION_BUCKETS_MS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)
"""From an answer out of a cache at the vendor's to the longest reasoning."""


class Instruments:
    """The counters of one chain."""

    def __init__(self, meter: Meter) -> None:
        self._calls = meter.counter("llm_calls_total", "Calls sent to targets", ("target", "outcome"))
        self._tokens = meter.counter("llm_tokens_total", "Tokens, as the target counted them", ("target", "kind"))
        self._cost = meter.counter("llm_cost_usd", "Cost in US dollars, where the price is known", ("target",))
        self._unpriced = meter.counter("llm_unpriced_calls_total", "Calls whose price is unknown", ("target",))
        self._duration = meter.histogram(
            "llm_call_duration_ms",
            "Until the whole answer, or a stream's first chunk",
            ("target",),
            buckets=DURATION_BUCKETS_MS,
        )
        self._warned: set[str] = set()

    def called(self, target: str, outcome: str, duration_ms: float) -> None:
        self._calls.add(1, target, outcome)
        self._duration.observe(duration_ms, target)

    def used(self, target: str, usage: Usage | None, cost_nusd: int | None, *, has_price: bool) -> None:
        if usage is not None:
            self._tokens.add(usage.input_tokens, target, "input")
            self._tokens.add(usage.output_tokens, target, "output")
        if cost_nusd is not None:
            self._cost.add(cost_nusd / NUSD_PER_USD, target)
        if not has_price:
            self._unpriced.add(1, target)
            if target not in self._warned:
                self._warned.add(target)
                logger.warning("no price is known for %s: its calls have no cost", target)
