"""What ingestion passes on: a document as plain text with the places of its blocks, and the chunks cut from it.

All offsets are Unicode code points into `Document.text`, end exclusive. The text is NFC, holds no control characters
but line feed and tab, and is written in one shape whatever the file's format was:

- blocks are separated by one blank line, items of one list by one line feed;
- a list item starts with its marker (`- `, or `3. ` in an ordered list), indented two spaces a level;
- code stands between two lines of three backticks;
- a table is a block of lines, one a row, cells joined by ` | `, the header row first where there is one;
- a line feed within a paragraph was a deliberate line break in the source; wrapped lines are joined.
"""

from typing import Literal

import msgspec

BlockKind = Literal["heading", "paragraph", "list_item", "table", "code"]

CRUMB_SEPARATOR = " > "
CODE_FENCE = "```"


class Block(msgspec.Struct, frozen=True, array_like=True):
    """One structural unit. Blocks are in text order, do not overlap, and together hold all that is not white space.

    `level`: 1–6 for headings, nesting from 1 for list items, else 0. `page`: from 1 where the block begins, PDF only.
    """

    kind: BlockKind
    level: int
    start: int
    end: int
    page: int | None = None


class Document(msgspec.Struct, frozen=True):
    """`parser`: the format it was read as. `title`: from the file's metadata or its first level-1 heading."""

    text: str
    blocks: tuple[Block, ...]
    parser: str
    title: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a document that is embedded and found as one. `text == document.text[start:end]`, always.

    `ordinal` counts from 0. `heading`: the breadcrumb it stands under, `A > B`; a continued table adds its header row.
    """

    ordinal: int
    start: int
    end: int
    heading: str
    text: str

    def embedding_text(self) -> str:
        """Heading and text, without saying again the headings that the text itself begins with."""
        crumbs = self.heading.split(CRUMB_SEPARATOR) if self.heading else []
        line, _, rest = self.text.partition("\n")
        body = self.text
        while line in crumbs:
            body = rest.lstrip("\n")
            line, _, rest = body.partition("\n")
        return "\n".join(part for part in (self.heading, body) if part)


class CutDocument(msgspec.Struct, frozen=True):
    """What is stored of a document: its text, the format it was read as, and its passages in order."""

    text: str
    parser: str
    chunks: list[Chunk]
