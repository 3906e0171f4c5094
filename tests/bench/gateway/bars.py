"""The bars of the gateway's data plane, and what a run says to each."""

from __future__ import annotations

import statistics

import msgspec

from bench.gateway.cases import ALONE, HIT, PLAIN, STREAM, Outcome
from bench.gateway.processes import MB
from bench.gateway.results import Mixed, Results, ratio

# All numbers below are the bars that were set for the data plane before it was built.
PLAIN_RATIO = 20.0
STREAM_RATIO = 60.0
HIT_RATIO = 29.0
"""0.25 ms, where LiteLLM's plain call took 7.3."""
RATE_RATIO = 15.0
ADDED_P50_MS = 0.6
ADDED_P99_MS = 3.0
MAX_RSS_MB = 150.0
MAX_GROWTH = 0.02
MIXED_FACTOR = 2.0
MIXED_MORE_MS = 20.0
BRIDGE_MORE_MS = 0.4


class Bar(msgspec.Struct, frozen=True):
    """`is_met` is None where the run did not measure it."""

    what: str
    limit: str
    measured: str
    is_met: bool | None


def bars(results: Results) -> list[Bar]:
    return [
        _at_least("CPU a plain call, LiteLLM / WattOS", PLAIN_RATIO, _cpu_ratio(results, is_stream=False)),
        _at_least("CPU a 100-chunk stream, LiteLLM / WattOS", STREAM_RATIO, _cpu_ratio(results, is_stream=True)),
        _at_least("CPU, LiteLLM's plain call / a cache hit of WattOS", HIT_RATIO, _hit_ratio(results)),
        _at_least("Plain calls a second on 10 connections, WattOS / LiteLLM", RATE_RATIO, _rate_ratio(results)),
        _at_most("Added latency on 1 connection, p50", ADDED_P50_MS, added_ms(results, "p50"), "ms", 2),
        _at_most("Added latency on 1 connection, p99", ADDED_P99_MS, added_ms(results, "p99"), "ms", 2),
        *_memory(results),
        *_mixed(results),
        *_bridge(results),
    ]


def _at_least(what: str, limit: float, value: float | None) -> Bar:
    met = None if value is None else value >= limit
    return Bar(what, f"≥ {limit:g} ×", "–" if value is None else f"{value:.1f} ×", met)


def _at_most(what: str, limit: float, value: float | None, unit: str, digits: int) -> Bar:
    met = None if value is None else value <= limit
    return Bar(what, f"≤ {limit:g} {unit}", "–" if value is None else f"{value:.{digits}f} {unit}", met)


def _cpu_ratio(results: Results, *, is_stream: bool) -> float | None:
    case = STREAM if is_stream else PLAIN
    theirs, ours = results.of("litellm", case), results.of("wattos", case)
    return ratio(theirs and theirs.cpu_ms, ours and ours.cpu_ms)


def _hit_ratio(results: Results) -> float | None:
    theirs, ours = results.of("litellm", PLAIN), results.of("wattos", HIT)
    return ratio(theirs and theirs.cpu_ms, ours and ours.cpu_ms)


def _rate_ratio(results: Results) -> float | None:
    ours, theirs = results.of("wattos", PLAIN), results.of("litellm", PLAIN)
    return ratio(ours and ours.per_second, theirs and theirs.per_second)


def added_ms(results: Results, percentile: str) -> float | None:
    """What WattOS adds to the upstream's own latency on one connection: the difference of the medians."""
    ours, direct = results.of("wattos", ALONE), results.of("upstream", ALONE)
    if ours is None or direct is None or ours.latency_ms is None or direct.latency_ms is None:
        return None
    difference: float = getattr(ours.latency_ms, percentile) - getattr(direct.latency_ms, percentile)
    return difference


def _memory(results: Results) -> list[Bar]:
    growth = results.growth
    n_calls = growth.n_calls if growth else 100_000
    megabytes = growth.at_end.own_bytes / MB if growth else None
    more = growth.ratio * 100 if growth else None
    return [
        _at_most(f"Memory after {n_calls:,} calls", MAX_RSS_MB, megabytes, "MB", 0),
        _at_most(f"Its growth over the last {n_calls // 2:,}", MAX_GROWTH * 100, more, "%", 1),
    ]


def _mixed(results: Results) -> list[Bar]:
    ours = [mixed for mixed in results.mixed if mixed.server == "wattos"]
    limit = f"≤ {MIXED_FACTOR:g} × or + {MIXED_MORE_MS:g} ms"
    what = "p99 of small calls at half the CPU, with 100-kB prompts mixed in"
    if not ours:
        return [Bar(what, limit, "–", None), Bar("Errors meanwhile", "0", "–", None)]
    alone, small = middle_p99_ms([m.alone for m in ours]), middle_p99_ms([m.small for m in ours])
    n_errors = sum(_errors(mixed) for mixed in ours)
    return [
        Bar(what, limit, *_compare(alone, small)),
        Bar("Errors meanwhile", "0", str(n_errors), n_errors == 0),
    ]


def _compare(alone: float | None, small: float | None) -> tuple[str, bool | None]:
    if alone is None or small is None:
        return "no answers", False
    return f"{small:.1f} ms, alone {alone:.1f} ms", small <= max(MIXED_FACTOR * alone, alone + MIXED_MORE_MS)


def _errors(mixed: Mixed) -> int:
    return mixed.alone.n_errors + mixed.small.n_errors + mixed.large.n_errors


def middle_p99_ms(outcomes: list[Outcome]) -> float | None:
    found = [outcome.latency_ms.p99 for outcome in outcomes if outcome.latency_ms is not None]
    return statistics.median(found) if found else None


def _bridge(results: Results) -> list[Bar]:
    what, limit = "CPU a call through the bridge, over litellm's SDK alone", f"≤ + {BRIDGE_MORE_MS:g} ms"
    if results.bridge is None:
        return [Bar(what, limit, "–", None)]
    sdk, wattos = statistics.median(results.bridge.sdk_ms), statistics.median(results.bridge.wattos_ms)
    measured = f"{wattos:.2f} ms, SDK {sdk:.2f} ms: {wattos - sdk:+.2f} ms"
    return [Bar(what, limit, measured, wattos - sdk <= BRIDGE_MORE_MS)]
