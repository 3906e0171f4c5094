"""Passages → statements: what can be quoted by itself. Sentences, list items, table rows, each with its context.

Reads the one shape of text that `ingestion.model` describes; works on any other text as plain sentences.
"""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from app.grounding import Passage
from app.knowledge.ingestion.model import CODE_FENCE, CRUMB_SEPARATOR
from app.knowledge.ingestion.sentences import sentence_spans

MAX_HEADING_WORDS = 14
MIN_STATEMENT_CHARS = 3

_BLOCK = re.compile(rf"{CODE_FENCE}[\s\S]*?\n{CODE_FENCE}(?=\n|\Z)|\S(?:(?!\n[ \t]*\n)[\s\S])*")
_ITEM = re.compile(r"[ \t]*(?:[-•*–]|\d{1,4}[.)])[ \t]+(?=\S)")
_CELL = " | "
_STATEMENT_END = re.compile(r"[.!:;…。！][\"'”“’»)\]]*$")  # a question alone on its line heads its answer

Kind = Literal["sentence", "item", "row", "code"]
"""`code` is quoted with the sentence that introduces it, never by itself."""


class Statement(msgspec.Struct, frozen=True):
    """`text == passage.text[start:end]`. `number`: the passage's place in the list; `order`: its own in the passage.

    `block`: which block of the passage; consecutive sentences of one block read on. `lead`: span of the sentence that
    introduces its list, or of a table's header row. `context`: heading and lead, as words.
    """

    number: int
    order: int
    block: int
    kind: Kind
    start: int
    end: int
    text: str
    context: str
    lead: tuple[int, int] | None = None


def statements(number: int, passage: Passage) -> list[Statement]:
    """All statements of a passage, in order. Headings are context, never statements."""
    found: list[Statement] = []
    reader = _Reader(passage)
    for block, (start, end) in enumerate(_blocks(passage.text)):
        for kind, first, last, context, lead in reader.read(start, end):
            if last - first >= MIN_STATEMENT_CHARS:
                text = passage.text[first:last]
                found.append(Statement(number, len(found), block, kind, first, last, text, context, lead))
    return found


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    for match in _BLOCK.finditer(text):
        yield match.start(), match.start() + len(match[0].rstrip())


_Read = tuple[Kind, int, int, str, tuple[int, int] | None]


class _Reader:
    """Remembers heading and lead from block to block."""

    def __init__(self, passage: Passage) -> None:
        self._text = passage.text
        self._crumbs = passage.heading.split(CRUMB_SEPARATOR) if passage.heading else []
        self._table_header = self._crumbs.pop() if self._crumbs and _CELL in self._crumbs[-1] else ""
        self._heading = self._crumbs[-1] if self._crumbs else ""
        self._lead: tuple[int, int] | None = None

    def read(self, start: int, end: int) -> Iterator[_Read]:
        text = self._text[start:end]
        lines = text.split("\n")
        if text.startswith(CODE_FENCE):
            yield "code", start, end, self._heading, self._lead
        elif _ITEM.match(text) and (self._lead or len(lines) > 1 or not self._is_numbered_heading(text)):
            yield from self._items(start, end)
        elif _CELL in text and (self._table_header or (len(lines) > 1 and all(_CELL in line for line in lines))):
            yield from self._rows(start, end)
        elif self._is_heading(text, end):
            self._heading, self._lead = text, None
        else:
            yield from self._sentences(start, end)

    def _is_numbered_heading(self, text: str) -> bool:
        return text in self._crumbs

    def _is_heading(self, text: str, end: int) -> bool:
        if text in self._crumbs:
            return True
        short = "\n" not in text and len(text.split()) <= MAX_HEADING_WORDS and _CELL not in text
        return short and end < len(self._text) and not _STATEMENT_END.search(text)

    def _lead_text(self) -> str:
        return self._text[self._lead[0] : self._lead[1]] if self._lead else ""

    def _items(self, start: int, end: int) -> Iterator[_Read]:
        """Items without their markers; further lines without a marker belong to the item before."""
        begins = [match.start() for match in re.finditer(r"^", self._text[start:end], re.MULTILINE)]
        begins = [start + at for at in begins if _ITEM.match(self._text, start + at)]
        context = f"{self._heading} {self._lead_text()}".strip()
        for first, last in zip(begins, [*begins[1:], end], strict=True):
            marker = _ITEM.match(self._text, first)
            assert marker is not None
            stop = marker.end() + len(self._text[marker.end() : last].rstrip())
            yield "item", marker.end(), stop, context, self._lead

    def _rows(self, start: int, end: int) -> Iterator[_Read]:
        header: tuple[int, int] | None = None
        names = self._table_header
        position = start
        for line in self._text[start:end].split("\n"):
            if not names and position == start:
                header, names = (position, position + len(line)), line
            else:
                yield "row", position, position + len(line), f"{self._heading} {names}".strip(), header
            position += len(line) + 1
        self._table_header, self._lead = "", None

    def _sentences(self, start: int, end: int) -> Iterator[_Read]:
        spans = list(sentence_spans(self._text, start, end))
        for first, last in spans:
            yield "sentence", first, last, self._heading, None
        first, last = spans[-1]
        self._lead = (first, last) if self._text[last - 1] == ":" else None
