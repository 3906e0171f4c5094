"""The picture of a run: horizontal bars, WattOS beside LiteLLM's proxy, as SVG without a library.

It brings its own ground, which follows the reader's light or dark scheme, so it is readable on any page.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

import msgspec

from bench.gateway.cases import LARGE, PLAIN, STREAM, Case
from bench.gateway.results import Results, doubts, ratio

WIDTH, LEFT, RIGHT = 820, 190, 210
"""Pixels: the whole, room for the names, room for the values."""

BAR, GAP, GROUP_GAP, PANEL_GAP, TOP = 15, 3, 14, 46, 74
SHOWN = (
    (PLAIN, "plain, 60 bytes"),
    (LARGE, "plain, 100 kB"),
    (STREAM, "stream, 60 bytes"),
    (msgspec.structs.replace(STREAM, size="100k"), "stream, 100 kB"),
)
"""All on 10 connections."""

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2933; }
  .title { font-size: 17px; font-weight: 600; } .panel { font-weight: 600; } .quiet { fill: #5b6875; }
  .ground { fill: #ffffff; stroke: #d5dbe1; } .ours { fill: #0f8a6d; } .theirs { fill: #a3aeb9; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6eaee; } .quiet { fill: #9aa7b3; } .ground { fill: #12181f; stroke: #2d3742; }
    .ours { fill: #2fbf9b; } .theirs { fill: #66727e; }
  }
"""


class Pair(msgspec.Struct, frozen=True):
    """One group of two bars."""

    label: str
    ours: float | None
    theirs: float | None
    times: float | None
    """How many times better ours is."""


class Panel(msgspec.Struct, frozen=True):
    title: str
    unit: str
    better: str
    """`less` or `more`."""
    pairs: list[Pair]


def panels(results: Results) -> list[Panel]:
    return [
        Panel("CPU a call: less is better", "ms", "less", [_cpu(results, case, label) for case, label in SHOWN]),
        Panel("Calls a second: more is better", "/s", "more", [_rate(results, case, label) for case, label in SHOWN]),
    ]


def _cpu(results: Results, case: Case, label: str) -> Pair:
    ours, theirs = results.of("wattos", case), results.of("litellm", case)
    our_ms, their_ms = ours and ours.cpu_ms, theirs and theirs.cpu_ms
    return Pair(label, our_ms, their_ms, ratio(their_ms, our_ms))


def _rate(results: Results, case: Case, label: str) -> Pair:
    ours, theirs = results.of("wattos", case), results.of("litellm", case)
    our_rate, their_rate = ours and ours.per_second, theirs and theirs.per_second
    return Pair(label, our_rate, their_rate, ratio(our_rate, their_rate))


def number(value: float) -> str:
    """Three digits that count: 0.312, 4.56, 78.9, 1,234."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}"


def draw(results: Results) -> str:
    lines: list[str] = []
    y = TOP
    for panel in panels(results):
        lines.append(f'<text class="panel" x="24" y="{y}">{escape(panel.title)}</text>')
        y += 14
        most = max(
            [v for pair in panel.pairs for v in (pair.ours, pair.theirs) if v is not None and math.isfinite(v)],
            default=0.0,
        )
        for pair in panel.pairs:
            lines += _group(pair, panel, most, y)
            y += 2 * BAR + GAP + GROUP_GAP
        y += PANEL_GAP - GROUP_GAP
    height = y - PANEL_GAP + 40
    machine = results.machine
    made = f"{machine.processor}, {machine.n_cores} cores, {results.made_at[:10]}; rounds: {results.n_rounds}"
    if doubts(results):
        made += "; preliminary, to be run again"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' role="img" aria-labelledby="title">',
            '<title id="title">CPU a call and calls a second, WattOS beside LiteLLM\'s proxy</title>',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            '<text class="title" x="24" y="34">One process, 10 connections</text>',
            *_legend(results),
            *lines,
            f'<text class="quiet" x="24" y="{height - 16}">{escape(made)}</text>',
            "</svg>",
            "",
        ]
    )


def _legend(results: Results) -> list[str]:
    theirs = results.versions.get("litellm", {}).get("litellm", "")
    names = ("ours", "WattOS", WIDTH - 320), ("theirs", f"LiteLLM's proxy {theirs}".strip(), WIDTH - 210)
    return [
        line
        for kind, name, x in names
        for line in (
            f'<rect class="{kind}" x="{x}" y="23" width="13" height="13" rx="2"/>',
            f'<text x="{x + 20}" y="34">{escape(name)}</text>',
        )
    ]


def _group(pair: Pair, panel: Panel, most: float, y: int) -> list[str]:
    lines = [f'<text x="{LEFT - 12}" y="{y + BAR + 6}" text-anchor="end">{escape(pair.label)}</text>']
    for value, kind, top in ((pair.ours, "ours", y), (pair.theirs, "theirs", y + BAR + GAP)):
        if value is None or not most or not math.isfinite(value):
            continue
        length = max(2.0, (WIDTH - LEFT - RIGHT) * value / most)
        times = f" · {number(pair.times)} times {panel.better}" if kind == "ours" and pair.times is not None else ""
        lines.append(f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        lines.append(f'<text x="{LEFT + length + 7:.1f}" y="{top + 12}">{number(value)} {panel.unit}{times}</text>')
    return lines
