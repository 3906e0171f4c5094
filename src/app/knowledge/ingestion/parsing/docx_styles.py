"""What a DOCX paragraph is: a heading, an item of a list, or running text, by its style and numbering properties."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownVariableType=false
# lxml calls its elements' type `_Element`; python-docx's XML classes lack types.

from collections import defaultdict
from typing import Literal

import msgspec
from docx.document import Document as DocxDocument
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml.ns import qn
from lxml import etree

_MAX_STYLE_DEPTH = 20  # styles inherit from each other; a damaged file may do so in a circle
_BODY_OUTLINE_LEVEL = 9  # ECMA-376, part 1, §17.3.1.20: outline levels 0–8 are headings, 9 is body text


class Role(msgspec.Struct, frozen=True):
    """`skip` is for lines that only repeat others: a table of contents. `number` is None for bullets."""

    kind: Literal["heading", "list_item", "paragraph", "skip"]
    level: int = 0
    number: int | None = None


class ParagraphStyles:
    """The document's styles and numbering, looked up once; counts ordered lists as it is asked in document order."""

    def __init__(self, document: DocxDocument) -> None:
        self._styles: dict[str, etree._Element] = {}
        self._default = ""
        for style in document.styles.element.iterchildren(qn("w:style")):
            if style.get(qn("w:type")) == "paragraph":
                self._styles[style.get(qn("w:styleId"), "")] = style
                if style.get(qn("w:default")) in ("1", "true"):
                    self._default = style.get(qn("w:styleId"), "")
        self._formats = _numbering_formats(document)
        self._counters: dict[str, dict[int, int]] = defaultdict(dict)
        titles = {style_id for style_id in self._styles if self._names(style_id) & {"title"}}
        used = {_value(paragraph.find(qn("w:pPr")), "w:pStyle") for paragraph in document.element.body.iter(qn("w:p"))}
        self._heading_shift = 1 if titles & used else 0  # under a title, chapters are level 2, as in Markdown

    def role_of(self, paragraph: etree._Element) -> Role:
        """Call once a paragraph, in document order."""
        properties = paragraph.find(qn("w:pPr"))
        style_id = _value(properties, "w:pStyle") or self._default
        names = self._names(style_id)
        if any(name.startswith("toc ") for name in names):
            return Role("skip")
        if "title" in names:
            return Role("heading", 1)
        outline = self._inherited(properties, style_id, "w:outlineLvl")
        if outline is not None and outline.isdecimal() and int(outline) < _BODY_OUTLINE_LEVEL:
            return Role("heading", int(outline) + 1 + self._heading_shift)
        for name in names:
            kind, _, level = name.partition(" ")
            if kind == "heading" and level.isdecimal():
                return Role("heading", int(level) + self._heading_shift)
        return self._list_role(properties, style_id, names)

    def _list_role(self, properties: etree._Element | None, style_id: str, names: set[str]) -> Role:
        style_level = max((_list_style_level(name) for name in names), default=0)
        list_id = self._inherited(properties, style_id, "w:numPr/w:numId")
        if list_id is None:
            return Role("list_item", style_level) if style_level else Role("paragraph")
        if list_id == "0":  # §17.9.18: removes an inherited numbering
            return Role("paragraph")
        level = int(self._inherited(properties, style_id, "w:numPr/w:ilvl") or 0)
        if self._formats.get((list_id, level), "bullet") in ("bullet", "none"):
            return Role("list_item", max(level + 1, style_level))
        counters = self._counters[list_id]
        counters[level] = counters.get(level, 0) + 1
        for deeper in [other for other in counters if other > level]:
            del counters[deeper]
        return Role("list_item", max(level + 1, style_level), counters[level])

    def _chain(self, style_id: str) -> list[etree._Element]:
        chain: list[etree._Element] = []
        while style_id in self._styles and len(chain) < _MAX_STYLE_DEPTH:
            chain.append(self._styles[style_id])
            style_id = _value(chain[-1], "w:basedOn") or ""
        return chain

    def _names(self, style_id: str) -> set[str]:
        """Built-in styles keep their English name in every language's Word; only the id is translated."""
        return {(_value(style, "w:name") or "").lower() for style in self._chain(style_id)}

    def _inherited(self, properties: etree._Element | None, style_id: str, path: str) -> str | None:
        found = _value(properties, path)
        if found is not None:
            return found
        for style in self._chain(style_id):
            found = _value(style.find(qn("w:pPr")), path)
            if found is not None:
                return found
        return None


def _list_style_level(name: str) -> int:
    """`list bullet 2` is level 2; 0 when it is no list's style."""
    if not name.startswith(("list bullet", "list number")):
        return 0
    level = name.rsplit(" ", 1)[1]
    return int(level) if level.isdecimal() else 1


def _value(parent: etree._Element | None, path: str) -> str | None:
    """The `w:val` of a descendant given by its path of tags."""
    for tag in path.split("/"):
        parent = None if parent is None else parent.find(qn(tag))
    return None if parent is None else parent.get(qn("w:val"))


def _numbering_formats(document: DocxDocument) -> dict[tuple[str, int], str]:
    """`decimal`, `bullet`, … by list id and level; empty when the document has no numbering part."""
    if not any(rel.reltype == RELATIONSHIP_TYPE.NUMBERING for rel in document.part.rels.values()):
        return {}
    numbering = document.part.numbering_part.element
    abstract: dict[str | None, dict[int, str]] = {}
    for definition in numbering.iterchildren(qn("w:abstractNum")):
        levels = {
            int(level.get(qn("w:ilvl"), 0)): _value(level, "w:numFmt") or "decimal"
            for level in definition.iterchildren(qn("w:lvl"))
        }
        abstract[definition.get(qn("w:abstractNumId"))] = levels
    return {
        (number.get(qn("w:numId"), ""), level): kind
        for number in numbering.iterchildren(qn("w:num"))
        for level, kind in abstract.get(_value(number, "w:abstractNumId"), {}).items()
    }
