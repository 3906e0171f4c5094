"""Calls as lines of a file: CSV (RFC 4180) or JSON, with the columns of `UsageOut`. No float is rounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from app.billing.schemas import UsageOut

ExportFormat = Literal["csv", "jsonl"]

_CLIENTS_TEXT = ("model", "target", "error", "endpoint", "outcome")
"""Columns of text; of the first two clients choose what stands in them."""

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""https://owasp.org/www-community/attacks/CSV_Injection: a spreadsheet would compute what begins with one of these."""

_jsonl = msgspec.json.Encoder()


class Lines(Protocol):
    """How a file begins, and its lines."""

    media_type: str

    def head(self) -> bytes: ...

    def lines(self, calls: Sequence[UsageOut]) -> bytes: ...


class Csv:
    """With a header. An apostrophe stands before text that a spreadsheet would take for a formula; null is empty."""

    media_type = "text/csv; charset=utf-8; header=present"

    def head(self) -> bytes:
        return _written([UsageOut.__struct_fields__])

    def lines(self, calls: Sequence[UsageOut]) -> bytes:
        return _written([_cells(call) for call in calls])


class JsonLines:
    """One object a line, as the API has it."""

    media_type = "application/jsonl"

    def head(self) -> bytes:
        return b""

    def lines(self, calls: Sequence[UsageOut]) -> bytes:
        return _jsonl.encode_lines(calls)


FORMATS: Mapping[ExportFormat, Lines] = {"csv": Csv(), "jsonl": JsonLines()}


def _cells(call: UsageOut) -> list[Any]:
    cells: dict[str, Any] = msgspec.to_builtins(call)
    cells["is_estimate"] = "true" if call.is_estimate else "false"
    for name in _CLIENTS_TEXT:
        if (text := cells[name]) is not None and text.startswith(_BEGINS_FORMULA):
            cells[name] = "'" + text
    return list(cells.values())


def _written(rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()
