"""What one run of the bench found, as it is kept in docs/performance.json, and its arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import final

import msgspec

from bench.gateway.cases import Case, Outcome, ServerName, Spread
from bench.gateway.processes import Cpu, Memory

BUSY_LOAD = 0.5
"""Other work before the run, in cores, from which on its numbers say little."""

SHORT_S = 1.5
"""Shorter rounds only show that the bench works."""

MIN_ROUNDS = 3
"""Of fewer there is no median that leaves out a bad one."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    processor: str
    n_cores: int
    memory_bytes: int
    kernel: str
    load_before: float
    """Of the last minute, when the bench began: what other work there was."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One case against one server in one round."""

    case: Case
    server: ServerName
    round: int
    outcome: Outcome
    cpu: Cpu
    """Spent meanwhile."""
    memory: Memory
    """Afterwards."""

    @property
    def cpu_ms(self) -> float:
        """A call, of the server's own process."""
        return per_call_ms(self.cpu.own_ns, self.outcome)

    @property
    def with_children_ms(self) -> float:
        return per_call_ms(self.cpu.own_ns + self.cpu.children_ns, self.outcome)


class Mixed(msgspec.Struct, frozen=True, kw_only=True):
    """Small calls at a fixed rate, alone and then with large ones: together half of one core, by what calls cost."""

    server: ServerName
    round: int
    offered_per_second: dict[str, float]
    """Of `small` and `large`."""
    core_share: float
    """What the server really took of one core while both came."""
    alone: Outcome
    small: Outcome
    large: Outcome


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of WattOS in the course of many calls of all kinds."""

    n_calls: int
    n_errors: int
    at_half: Memory
    at_end: Memory

    @property
    def ratio(self) -> float:
        """0.02 is 2 % more over the second half."""
        return self.at_end.own_bytes / self.at_half.own_bytes - 1


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """CPU a call through litellm, in ms: its SDK alone, and WattOS with LLM_TRANSPORT=litellm. One value a round."""

    sdk_ms: list[float]
    wattos_ms: list[float]


class Results(msgspec.Struct, kw_only=True):
    made_at: str
    """UTC, ISO 8601."""
    form: str
    """`quick`, `full` or `selected`."""
    n_rounds: int
    seconds: float
    """Of each case, server and round."""
    machine: Machine
    versions: dict[str, dict[str, str]]
    """By server, then by package."""
    cold_start_s: dict[str, list[float]] = {}
    idle: dict[str, Memory] = {}
    """After the cold start's one call."""
    runs: list[Run] = []
    mixed: list[Mixed] = []
    growth: Growth | None = None
    bridge: Bridge | None = None

    def of(self, server: ServerName, case: Case) -> Middle | None:
        """Returns: None if it was not measured."""
        found = [run for run in self.runs if run.server == server and run.case == case]
        return Middle(found) if found else None

    def cases(self) -> list[Case]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(run.case for run in self.runs))


def doubts(results: Results) -> list[str]:
    """Why the numbers say little, if they do: what to do better next time."""
    reasons = [
        (results.machine.load_before > BUSY_LOAD, f"the machine had other work (load {results.machine.load_before:g})"),
        (results.seconds < SHORT_S, f"a round took {results.seconds:g} s"),
        (results.n_rounds < MIN_ROUNDS, f"rounds: {results.n_rounds}"),
    ]
    return [reason for is_so, reason in reasons if is_so]


@final
class Middle:
    """The median of each number over the rounds. At least one run."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    def _median(self, number: Callable[[Run], float]) -> float:
        return statistics.median(number(run) for run in self.runs)

    @property
    def cpu_ms(self) -> float:
        return self._median(lambda run: run.cpu_ms)

    @property
    def with_children_ms(self) -> float:
        return self._median(lambda run: run.with_children_ms)

    @property
    def per_second(self) -> float:
        return self._median(lambda run: run.outcome.per_second)

    @property
    def rss_bytes(self) -> float:
        return self._median(lambda run: run.memory.own_bytes)

    @property
    def latency_ms(self) -> Spread | None:
        return middle_spread([run.outcome.latency_ms for run in self.runs])

    @property
    def first_byte_ms(self) -> Spread | None:
        return middle_spread([run.outcome.first_byte_ms for run in self.runs])

    @property
    def n_errors(self) -> int:
        """Of all rounds."""
        return sum(run.outcome.n_errors for run in self.runs)

    @property
    def errors(self) -> dict[str, int]:
        kinds = sorted({kind for run in self.runs for kind in run.outcome.errors})
        return {kind: sum(run.outcome.errors.get(kind, 0) for run in self.runs) for kind in kinds}


def per_call_ms(ns: int, outcome: Outcome) -> float:
    """Failed calls cost CPU too, but do not count as calls: a server gains nothing by refusing.

    Returns: infinity if none succeeded.
    """
    return ns / 1e6 / outcome.n_calls if outcome.n_calls else float("inf")


def middle_spread(spreads: list[Spread | None]) -> Spread | None:
    """The median of each percentile."""
    found = [spread for spread in spreads if spread is not None]
    if not found:
        return None
    return Spread(*(statistics.median(getattr(s, field) for s in found) for field in Spread.__struct_fields__))


def ratio(more: float | None, less: float | None) -> float | None:
    """How many times. Returns: None where one of them is not known, nothing, or endless: nothing answered."""
    if more is None or not less or math.isinf(more):
        return None
    return more / less
