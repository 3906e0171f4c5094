"""A report as a person or a program reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from app.billing.reconcile.compare import Line, Report
from app.billing.reconcile.model import Field, Ours, State, Totals
from app.llm.prices import NUSD_PER_USD

TITLES: dict[Field, str] = {
    "requests": "requests",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "cost_nusd": "US dollars",
}
MARKS: dict[State, str] = {"equal": "=", "explained": "~", "differs": "≠"}


def as_json(report: Report) -> str:
    """Money in nano-dollars. What the file does not tell is null."""

    def line(one: Line) -> dict[str, Any]:
        return {
            "day": one.day,
            "model": one.model,
            "state": one.state,
            "ours": one.ours.known,
            "theirs": _told(one.theirs, report),
            "difference": _told(one.difference, report),
            "estimated": one.ours.estimated,
            "unpriced": one.ours.unpriced,
        }

    shown = {
        "kind": report.kind,
        "since": report.since,
        "until": report.until,
        "is_equal": report.is_equal,
        "lines": [line(one) for one in report.lines],
        "sums": {name: value for name, value in line(report.sums).items() if name not in ("day", "model")},
        "without_target": report.without_target.estimated,
    }
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


def as_table(report: Report) -> Iterator[str]:
    """Lines of text: a table, what was estimated, and the verdict."""
    rows = [_head(report.fields)]
    rows += [_cells(str(line.day), line, report.fields) for line in report.lines]
    rows.append(_cells("sum", report.sums, report.fields))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    yield f"{report.kind}, {report.since} to {report.until} (UTC): ours, theirs, and theirs less ours"
    for row in rows:
        texts = (cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True))
        numbers = (cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))
        yield "  ".join([*texts, *numbers]).rstrip()
    estimated = [line for line in report.lines if line.ours.estimated.requests]
    if estimated or report.without_target.estimated.requests:
        yield "estimated or cancelled, not in ours above:"
        for line in estimated:
            yield f"  {line.day}  {line.model}: {_sentence(line.ours)}"
        if report.without_target.estimated.requests:
            yield f"  lost, nobody knows at which target: {_sentence(report.without_target)}"
    if report.sums.ours.unpriced:
        yield f"{report.sums.ours.unpriced} of our calls have no price and are missing in our costs"
    yield _verdict(report)


def _verdict(report: Report) -> str:
    n_different = sum(line.state == "differs" for line in report.lines)
    n_explained = sum(line.state == "explained" for line in report.lines)
    explained = f"; {n_explained} differ by no more than was estimated (~)" if n_explained else ""
    if n_different:
        return f"{n_different} of {len(report.lines)} days and models differ (≠){explained}"
    return f"nothing differs in {len(report.lines)} days and models{explained}"


def _head(fields: tuple[Field, ...]) -> list[str]:
    return ["", "day", "model", *(cell for field in fields for cell in (TITLES[field], "theirs", "difference"))]


def _cells(day: str, line: Line, fields: tuple[Field, ...]) -> list[str]:
    numbers: list[str] = []
    for field in fields:
        numbers += [_number(totals.of(field), field) for totals in (line.ours.known, line.theirs)]
        numbers.append(_number(line.difference.of(field), field, sign="+") if line.difference.of(field) else "0")
    return [MARKS[line.state], day, line.model, *numbers]


def _number(value: int, field: Field, sign: str = "") -> str:
    if field != "cost_nusd":
        return f"{value:{sign},}"
    whole, nano = divmod(abs(value), NUSD_PER_USD)
    before = "-" if value < 0 else sign
    return f"{before}{whole:,}.{nano:09}"[: -3 if nano % 1000 == 0 else None]


def _sentence(ours: Ours) -> str:
    one = ours.estimated
    tokens = f"{one.input_tokens:,} tokens in, {one.output_tokens:,} out"
    return f"{one.requests:,} requests, {tokens}, {_number(one.cost_nusd, 'cost_nusd')} dollars"


def _told(totals: Totals, report: Report) -> dict[str, int | None]:
    return {field: totals.of(field) if field in report.fields else None for field in TITLES}
