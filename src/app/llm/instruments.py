"""What is counted and logged of model calls, never what was asked or answered.

Labels are target ids: as many as the configuration names, no more; outcomes are `ok`, `cancelled` and error codes.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from app.llm.model import Target, Usage
from app.llm.prices import NUSD_PER_USD
from plugins.contract.errors import WattosError
from plugins.contract.ports import Meter, SlowLog
from plugins.contract.work import noted

logger = logging.getLogger("llm")

DURATION_BUCKETS_MS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)
"""From an answer out of a cache at the vendor's to the longest reasoning."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """One request's way through a chain, over. `cost_nusd` is None when usage or price is unknown."""

    target: Target
    attempts: int
    outcome: str
    usage: Usage | None
    cost_nusd: int | None
    duration_ms: float


class Instruments:
    """The counters of one chain."""

    def __init__(self, meter: Meter, slow_log: SlowLog) -> None:
        self._slow_log = slow_log
        self._calls = meter.counter(
            "llm_calls_total",
            "Calls sent to targets, by how they ended; a stream's when it is over.",
            ("target", "outcome"),
        )
        self._tokens = meter.counter("llm_tokens_total", "Tokens, as the targets counted them.", ("target", "kind"))
        self._cost = meter.counter("llm_cost_usd", "Cost in US dollars, where usage and price are known.", ("target",))
        self._unpriced = meter.counter("llm_unpriced_calls_total", "Calls whose price is unknown.", ("target",))
        self._duration = meter.histogram(
            "llm_call_duration_ms",
            "Milliseconds from sending a call to its whole answer, or to a stream's first token; failed calls too.",
            ("target",),
            buckets=DURATION_BUCKETS_MS,
        )
        self._hedges = meter.counter(
            "llm_hedges_total",
            "Second calls because the first target was slow, by the second one and what came of it.",
            ("target", "result"),
        )
        self._warned: set[str] = set()

    def called(self, target: Target, outcome: str) -> None:
        """Once for every call that was sent; for a stream when it is over."""
        self._calls.add(1, target.known_as, outcome)

    def took(self, target: Target, duration_ms: float) -> None:
        self._duration.observe(duration_ms, target.known_as)
        self._slow_log.took("embedding" if target.mode == "embedding" else "model", target.id, duration_ms)

    def hedged(self, target: Target, result: str) -> None:
        """`target`: the second one. `won`, `lost`, `failed`, or `refused` by a limit or a budget."""
        self._hedges.add(1, target.known_as, result)

    def used(self, target: Target, usage: Usage | None, cost_nusd: int | None) -> None:
        if usage is not None:
            self._tokens.add(usage.input_tokens, target.known_as, "input")
            self._tokens.add(usage.output_tokens, target.known_as, "output")
        if cost_nusd is not None:
            self._cost.add(cost_nusd / NUSD_PER_USD, target.known_as)

    def finished(self, done: Finished) -> None:
        """Once for every request that a target served, or began to."""
        name, usage = done.target.known_as, done.usage
        self.used(done.target, usage, done.cost_nusd)
        if done.target.price is None:
            self._unpriced.add(1, name)
            if name not in self._warned:
                self._warned.add(name)
                logger.warning("no price is known for %s: its calls have no cost", name)
        fields = {
            "target": done.target.id,
            "attempts": done.attempts,
            "outcome": done.outcome,
            "inputTokens": usage.input_tokens if usage else None,
            "outputTokens": usage.output_tokens if usage else None,
            "costNusd": done.cost_nusd,
            "durationMs": round(done.duration_ms, 1),
        }
        if not noted("llm", fields):  # a request's own line tells of it; a job, or what was counted later, has none
            logger.info("model call", extra={"llm": fields})


def outcome_of(exc: BaseException) -> str:
    """A label: the error's own code, `cancelled` when the caller left, `error` for a bug."""
    if isinstance(exc, WattosError):
        return exc.code
    return "cancelled" if isinstance(exc, asyncio.CancelledError | GeneratorExit) else "error"
