"""Writes a document's text in its one shape (see `ingestion.model`) and records where each block landed."""

from collections.abc import Sequence
from textwrap import dedent

from app.knowledge.ingestion.errors import FileTooComplex, NoTextFound
from app.knowledge.ingestion.model import CODE_FENCE, Block, BlockKind, Document
from app.knowledge.ingestion.parsing.characters import clean, clean_line, clean_lines

MAX_TEXT_CHARS = 20_000_000
"""About 10,000 printed pages of 2,000 characters. Keeps the parser's process under its memory bound."""

MAX_BLOCKS = 400_000
"""20 million characters in blocks of 50: shorter ones on average are not prose but an attack or a data dump."""

MAX_LIST_LEVEL = 9  # Word's own limit; deeper nesting keeps the indentation of level 9


class DocumentBuilder:
    """Collects blocks in reading order. Empty ones are dropped, so callers need not look first."""

    def __init__(self, parser: str) -> None:
        self._parser = parser
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self._open_list = False
        self._title: str | None = None

    def heading(self, text: str, level: int, page: int | None = None) -> None:
        line = clean_line(text)
        level = min(max(level, 1), 6)
        if line and level == 1 and self._title is None:
            self._title = line
        self._add("heading", line, level, page)

    def paragraph(self, text: str, page: int | None = None) -> None:
        """A line feed in `text` is a deliberate line break; join wrapped lines before."""
        self._add("paragraph", clean_lines(text), 0, page)

    def list_item(self, text: str, level: int = 1, number: int | None = None, page: int | None = None) -> None:
        line = clean_lines(text)
        marker = "- " if number is None else f"{number}. "
        self._add("list_item", line and marker + line, min(max(level, 1), MAX_LIST_LEVEL), page)

    def end_list(self) -> None:
        """The next item begins another list: a blank line goes between."""
        self._open_list = False

    def table(self, rows: Sequence[Sequence[str]], page: int | None = None) -> None:
        lines = (" | ".join(clean_line(cell) for cell in row) for row in rows)
        self._add("table", "\n".join(line.strip() for line in lines if line.strip(" |")), 0, page)

    def code(self, text: str, page: int | None = None) -> None:
        lines = (line.rstrip() for line in dedent(clean(text)).split("\n"))
        body = "\n".join(lines).strip("\n")
        self._add("code", body and f"{CODE_FENCE}\n{body}\n{CODE_FENCE}", 0, page)

    def build(self, title: str | None = None) -> Document:
        """`title`: from the file's metadata; by default the first level-1 heading.

        Raises: NoTextFound.
        """
        if not self._blocks:
            raise NoTextFound("There is no text in this file. Scanned pages need text recognition (OCR) first.")
        named = clean_line(title) if title else ""
        return Document("".join(self._parts), tuple(self._blocks), self._parser, named or self._title)

    def _add(self, kind: BlockKind, text: str, level: int, page: int | None) -> None:
        if not text:
            return
        separator = "" if not self._blocks else "\n" if kind == "list_item" and self._open_list else "\n\n"
        if kind == "list_item":
            separator += "  " * (level - 1)
        self._open_list = kind == "list_item"
        start = self._length + len(separator)
        self._length = start + len(text)
        if self._length > MAX_TEXT_CHARS or len(self._blocks) >= MAX_BLOCKS:
            raise FileTooComplex(f"The file holds more than {MAX_TEXT_CHARS:,} characters or {MAX_BLOCKS:,} blocks.")
        self._parts += (separator, text)
        self._blocks.append(Block(kind, level, start, self._length, page))
