"""A vendor's file, row by row: CSV, or JSON as their APIs answer, whole or an object a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from app.billing.reconcile.model import Unreadable

Row = Mapping[str, object]

FORMS = (
    "OpenAI's and Anthropic's usage and cost exports, or CSV or JSON lines with date, model and some of requests,"
    " input_tokens, output_tokens, cost_usd"
)


def rows_of(path: Path) -> Iterator[tuple[int, Row]]:
    """Each with the line where it stands; of a JSON document, its number. Raises: Unreadable."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = ""
            while not first.strip():
                first = file.readline()
                if not first:
                    raise Unreadable(f"{path}: the file is empty")
            file.seek(0)
            if first.lstrip()[0] not in "{[":
                yield from _csv(file, first)
            elif _is_json(first):
                yield from _json_lines(file, path)
            else:
                yield from enumerate(_flat(_decoded(file.read(), f"{path}")), start=1)
    except OSError as exc:
        raise Unreadable(f"{path}: cannot be read ({exc.strerror})") from None
    except UnicodeDecodeError:
        raise Unreadable(f"{path}: is not text in UTF-8: export it as CSV or JSON, unpacked") from None
    except RecursionError:
        raise Unreadable(f"{path}: is not JSON (nested too deeply)") from None
    except csv.Error as exc:
        raise Unreadable(f"{path}: is not CSV ({exc})") from None


def _csv(file: Any, first: str) -> Iterator[tuple[int, Row]]:
    """Spreadsheets of some countries put semicolons between cells."""
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    for cells in reader:
        values = ("" if cell is None else str(cell).strip() for cell in list(cells.values())[: len(names)])
        yield reader.line_num, dict(zip(names, values, strict=False))


def _json_lines(file: Any, path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            for row in _flat(_decoded(line, f"{path}, line {number}")):
                yield number, row


def _flat(document: object) -> Iterator[Row]:
    """Rows of pages of buckets, of one bucket, or rows as they are: however an API's answers were put together."""
    if isinstance(document, list):
        for one in cast("list[object]", document):
            yield from _flat(one)
    elif isinstance(document, dict):
        node = cast("dict[str, object]", document)
        inner = node.get("results", node.get("result", node.get("data")))
        if not isinstance(inner, list):
            yield _cells(node)
            return
        times = {name: value for name, value in node.items() if not isinstance(value, list | dict)}
        for one in cast("list[object]", inner):
            if isinstance(one, dict):
                yield from _flat({**times, **cast("dict[str, object]", one)})


def _cells(node: Mapping[str, object]) -> Row:
    """`{"amount": {"value": 1}}` has the cell `amount_value`, as OpenAI's CSV; others keep a dot."""
    cells: dict[str, object] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            joint = "_" if name == "amount" else "."
            cells |= {f"{name}{joint}{inner}": one for inner, one in cast("dict[str, object]", value).items()}
        else:
            cells[name] = value
    return cells


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _decoded(text: str, place: str) -> object:
    """Fractions stay as they are written. Raises: Unreadable."""
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as exc:
        why = exc.msg if isinstance(exc, json.JSONDecodeError) else "nested too deeply"
        raise Unreadable(f"{place}: is not JSON ({why})") from None
