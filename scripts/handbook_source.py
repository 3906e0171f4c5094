"""A handbook's Markdown source → blocks, which the DOCX and the PDF builder set. Refuses what those cannot set.

Column widths follow the dashes under a table's header, as pandoc reads them.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

INK, SHADE, LINE = "1F3A5F", "EEF2F7", "B8C4D3"  # of headings, code and header rows, table borders: RGB

Mark = Literal["plain", "strong", "code"]
Runs = list[tuple[str, Mark]]


@dataclass(frozen=True)
class Block:
    """`heading`, `paragraph` and `item` hold one cell of text; `table` all its rows, the header first; `code` lines.

    `number`: a heading's level, an ordered item's number, 0 for a bullet. `widths`: shares of the line, summing to 1.
    """

    kind: Literal["heading", "paragraph", "item", "table", "code"]
    rows: list[list[Runs]]
    number: int = 0
    widths: tuple[float, ...] = ()

    @property
    def runs(self) -> Runs:
        return self.rows[0][0]


@dataclass(frozen=True)
class Source:
    """A document to build. `meta`: the front matter's `title`, `subtitle`, `subject` and `date`."""

    meta: dict[str, str]
    blocks: list[Block]

    @property
    def date(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self.meta["date"]).replace(tzinfo=dt.timezone.utc)  # noqa: UP017  # one spelling

    @property
    def stand(self) -> str:
        return f"{self.meta['subject']} · Stand: {self.date:%d.%m.%Y}"


def read_source(path: Path) -> Source:
    _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    meta = dict(line.split(": ", 1) for line in front.splitlines())
    tree = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(body))
    return Source(meta, [block for node in tree.children for block in _blocks(node, body.split("\n"))])


def _blocks(node: SyntaxTreeNode, lines: list[str]) -> Iterator[Block]:
    match node.type:
        case "heading":
            yield Block("heading", [[_runs(node)]], int(node.tag[1]))
        case "paragraph":
            yield Block("paragraph", [[_runs(node)]])
        case "bullet_list" | "ordered_list":
            for number, item in enumerate(node.children, 1):
                yield Block("item", [[_runs(item.children[0])]], number if node.type == "ordered_list" else 0)
        case "fence":
            yield Block("code", [[[(node.content.rstrip("\n"), "code")]]])
        case "table":
            rows = [[_runs(cell) for cell in row.children] for part in node.children for row in part.children]
            dashes = [len(cell) for cell in re.findall("-+", lines[(node.map or (0, 0))[0] + 1])]
            yield Block("table", rows, widths=tuple(n / sum(dashes) for n in dashes))
        case kind:
            raise ValueError(f"the builder knows no {kind}: {node.pretty()}")


def _runs(node: SyntaxTreeNode) -> Runs:
    runs: Runs = []
    for child in node.children[0].children if node.children else ():
        match child.type:
            case "text":
                runs.append((child.content, "plain"))
            case "code_inline":
                runs.append((child.content, "code"))
            case "strong":
                runs.append((child.children[0].content, "strong"))
            case "softbreak":
                runs.append((" ", "plain"))
            case kind:
                raise ValueError(f"the builder knows no {kind} within a line")
    return runs
