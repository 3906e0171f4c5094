"""Plain text → blocks: paragraphs by blank lines, wrapped lines joined, lists and numbered headings where clear."""

import re
from collections.abc import Iterator
from itertools import pairwise

from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parsing.builder import DocumentBuilder
from app.knowledge.ingestion.parsing.characters import clean
from app.knowledge.ingestion.parsing.decoding import decode

MIN_WRAP_COLUMNS = 40
MAX_WRAP_COLUMNS = 120
"""Editors and mail programs wrap at 60 to 100 columns; narrower is verse or an address, wider is not wrapped."""

MAX_HEADING_CHARS = 80

_ITEM = re.compile(r"([ \t]*)(?:[-*•–‣▪]|(\d{1,3})[.)])[ \t]+(?=\S)")
_UNDERLINE = re.compile(r"(=+|-+)\s*$")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?[ \t]+[^\W\d_]")
_SENTENCE_END = re.compile(r"[.!?:;,…][\"'”“»)\]]*$")


def parse(data: bytes) -> Document:
    """Raises: UnsupportedFile for binary data, NoTextFound."""
    builder = DocumentBuilder("text")
    lines = clean(decode(data)).expandtabs(4).split("\n")
    width = _wrap_width(lines)
    for paragraph in _paragraphs(lines):
        _add(builder, paragraph, width)
    return builder.build()


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line.rstrip())
        elif paragraph:
            yield paragraph
            paragraph = []


def _add(builder: DocumentBuilder, lines: list[str], width: int | None) -> None:
    if len(lines) == 2 and _UNDERLINE.match(lines[1]) and len(lines[0]) <= MAX_HEADING_CHARS:
        return builder.heading(lines[0], 1 if lines[1].startswith("=") else 2)
    if len(lines) == 1 and (level := _heading_level(lines[0].strip())):
        return builder.heading(lines[0], level)
    builder.end_list()
    for piece in _pieces(lines):
        text = _unwrap(piece, width)
        item = _ITEM.match(text)
        if item is None:
            builder.paragraph(text)
        else:
            number = int(item[2]) if item[2] else None
            builder.list_item(text[item.end() :], level=1 + len(item[1]) // 2, number=number)
    return None


def _heading_level(line: str) -> int:
    """0: no heading. `1.2 Scope` and `SCOPE` on lines of their own are."""
    if len(line) > MAX_HEADING_CHARS or _SENTENCE_END.search(line):
        return 0
    numbered = _NUMBERED.match(line)
    if numbered:
        return 2 + numbered[1].count(".")
    return 2 if line.isupper() and len(line) > 3 and " | " not in line else 0


def _pieces(lines: list[str]) -> Iterator[list[str]]:
    """A run of lines, cut before each line that begins a list item. Text before the first item is its lead."""
    piece: list[str] = []
    for line in lines:
        if piece and _ITEM.match(line):
            yield piece
            piece = []
        piece.append(line)
    yield piece


def _wrap_width(lines: list[str]) -> int | None:
    """The column where this file's lines were wrapped, None when they were not."""
    longest = max((len(line.rstrip()) for line in lines), default=0)
    return longest if MIN_WRAP_COLUMNS <= longest <= MAX_WRAP_COLUMNS else None


def _unwrap(lines: list[str], width: int | None) -> str:
    """Join lines that were broken only because the next word did not fit; keep deliberate breaks."""
    text = lines[0]
    for line, following in pairwise(lines):
        word = following.split(maxsplit=1)[0]
        full = width is not None and len(line) + 1 + len(word) > width
        runs_on = word[0].islower() and not _SENTENCE_END.search(line) and len(line) >= MIN_WRAP_COLUMNS
        text += (" " if full or runs_on else "\n") + following.strip()
    return text
