"""Markdown (CommonMark with tables) → blocks, through markdown-it's flat token stream. Marks go, text stays."""

# pyright: reportMatchNotExhaustive=false
# Unknown tokens are passed over.

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parsing import html
from app.knowledge.ingestion.parsing.builder import DocumentBuilder
from app.knowledge.ingestion.parsing.decoding import decode

MAX_NESTING = 10_000
"""markdown-it leaves out without a word what is nested deeper than its own bound of 20 (ten levels of lists). Here
Python's bound on recursion comes first, beyond 400 levels, and is an error: FileTooComplex."""

_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\r?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*\r?$", re.MULTILINE)
_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)


def parse(data: bytes) -> Document:
    """Raises: UnsupportedFile for binary data, NoTextFound."""
    text = decode(data)
    title = None
    if front := _FRONT_MATTER.match(text):
        found = _FRONT_TITLE.search(front[1] or "")
        title = found[2] if found else None
        text = text[front.end() :]
    builder = DocumentBuilder("markdown")
    reader = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable(["table", "strikethrough"])
    _Walk(builder).run(reader.parse(text))
    return builder.build(title)


class _Walk:
    """Follows the open lists while it reads the token stream."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._lists: list[int | None] = []  # one entry an open list: its next number, None for bullets
        self._item_begun = False  # the next paragraph is the first of a list item

    def run(self, tokens: Sequence[Token]) -> None:
        stream = iter(tokens)
        for token in stream:
            match token.type:
                case "heading_open":
                    self._builder.heading(inline_text(next(stream)), int(token.tag[1]))
                case "paragraph_open":
                    self._paragraph(inline_text(next(stream)))
                case "bullet_list_open":
                    self._open_list(None)
                case "ordered_list_open":
                    self._open_list(int(token.attrs.get("start", 1)))
                case "bullet_list_close" | "ordered_list_close":
                    self._lists.pop()
                case "list_item_open":
                    self._item_begun = True
                case "fence" | "code_block":
                    self._builder.code(token.content)
                case "html_block":
                    html.add_fragment(self._builder, token.content)
                case "table_open":
                    self._builder.table(list(_rows(stream)))

    def _open_list(self, first: int | None) -> None:
        if not self._lists:
            self._builder.end_list()
        self._lists.append(first)

    def _paragraph(self, text: str) -> None:
        if not (self._item_begun and self._lists):
            self._builder.paragraph(text)
            return
        self._item_begun = False
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        self._builder.list_item(text, level=len(self._lists), number=number)


def _rows(stream: Iterator[Token]) -> Iterator[list[str]]:
    row: list[str] = []
    for token in stream:
        match token.type:
            case "inline":
                row.append(inline_text(token))
            case "tr_close":
                yield row
                row = []
            case "table_close":
                return


def inline_text(token: Token) -> str:
    """What a reader sees of an inline token: link texts, code and image descriptions, without marks and tags."""
    parts: list[str] = []
    for child in token.children or ():
        match child.type:
            case "text" | "code_inline":
                parts.append(child.content)
            case "softbreak":
                parts.append(" ")
            case "hardbreak":
                parts.append("\n")
            case "image":
                parts.append(inline_text(child))
            case "html_inline" if _BREAK_TAG.match(child.content):
                parts.append("\n")
    return "".join(parts)
