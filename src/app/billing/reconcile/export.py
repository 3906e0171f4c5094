"""From a file's rows to what the vendor says, by day and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from app.billing.reconcile.kinds import Kind, kind_of
from app.billing.reconcile.model import Export, Field, Totals, Unreadable
from app.billing.reconcile.reading import FORMS, Row, rows_of
from app.llm.prices import NUSD_PER_USD


def read_export(path: Path) -> Export:
    """Takes as much memory as it has days and models. Raises: Unreadable."""
    kind: Kind | None = None
    told: set[Field] = set()
    sums: defaultdict[tuple[date, str], dict[Field, Decimal]] = defaultdict(dict)
    columns: set[str] = set()
    for number, row in rows_of(path):
        place = f"{path}, line {number}"
        columns |= row.keys()
        if kind is None:
            kind = kind_of(row.keys())
            if kind is None and _is_empty(row):
                continue  # an empty bucket of OpenAI's, without the columns of others
            if kind is None:
                raise Unreadable(f"{place}: has no columns that are known ({_shown(row)}): what is read is {FORMS}")
        numbers = _numbers(row, kind, place)
        told |= numbers.keys()
        if not any(numbers.values()) and not _first(row, kind.model):
            continue  # an empty bucket
        where = _day(row, kind, place), _model(row, kind, place)
        for field, value in numbers.items():
            sums[where][field] = sums[where].get(field, Decimal(0)) + value
    if kind is None:
        raise Unreadable(f"{path}: has no rows of usage: choose days with calls, grouped by model")
    return Export(
        kind=kind.name,
        provider=kind.provider,
        fields=tuple(sorted(told, key=("requests", "input_tokens", "output_tokens", "cost_nusd").index)),
        totals={where: _totals(values) for where, values in sums.items()},
    )


def _totals(values: Mapping[Field, Decimal]) -> Totals:
    """Money is rounded once, here."""
    return Totals(**{field: int(value.to_integral_value(ROUND_HALF_UP)) for field, value in values.items()})


def _numbers(row: Row, kind: Kind, place: str) -> dict[Field, Decimal]:
    found: dict[Field, Decimal] = {}
    if kind.is_summed:
        parts = [value for name in kind.input_tokens if (value := _number(row, name, place, is_whole=True)) is not None]
        if parts:
            found["input_tokens"] = sum(parts, Decimal(0))
    named: dict[Field, tuple[str, ...]] = {"requests": kind.requests, "output_tokens": kind.output_tokens}
    if not kind.is_summed:
        named["input_tokens"] = kind.input_tokens
    for field, names in named.items():
        for name in names:
            if (value := _number(row, name, place, is_whole=True)) is not None:
                found[field] = value
    for name in kind.cost_usd:
        if (usd := _number(row, name, place, is_whole=False)) is not None:
            currency = str(row.get("amount_currency") or row.get("currency") or "usd")
            if currency.lower() != "usd":
                raise Unreadable(f"{place}: costs are in {currency[:20]!r}: the ledger is in US dollars")
            found["cost_nusd"] = usd * NUSD_PER_USD
    return found


def _number(row: Row, name: str, place: str, *, is_whole: bool) -> Decimal | None:
    """None where the cell is empty. Vendors write counts as `3.0`, too."""
    text = _text(row, name)
    if not text:
        return None
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite() or (is_whole and (value != value.to_integral_value() or value < 0)):
        what = "a number of them" if is_whole else "an amount in US dollars"
        raise Unreadable(f"{place}: {name} is {text[:50]!r}, which is not {what}")
    return value


def _day(row: Row, kind: Kind, place: str) -> date:
    text = _first(row, kind.time)
    try:
        if len(text) > len("20261126") and text.replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(int(Decimal(text)), UTC).date()
        moment = datetime.fromisoformat(text)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError, OSError):
        names = " or ".join(kind.time)
        raise Unreadable(f"{place}: {names} is {text[:50]!r}, which is no day: e.g. 2026-11-26") from None


def _model(row: Row, kind: Kind, place: str) -> str:
    model = _first(row, kind.model)
    if kind.is_line_item:
        model = model.rpartition(", ")[0] or model
    if not model:
        raise Unreadable(f"{place}: has no model: export it again, grouped by {kind.model[0]}")
    return model


def _first(row: Row, names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := _text(row, name))), "")


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _is_empty(row: Row) -> bool:
    return not any(_text(row, name) for name in row if not name.startswith(("start", "end", "object")))


def _shown(row: Row) -> str:
    return ", ".join(sorted(row))[:200]
