"""HTML → blocks with lxml. What a reader would not read goes: scripts, styles, navigation, forms, hidden elements.

The tree is walked by events, not by recursion: depth costs no stack.
"""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false, reportMatchNotExhaustive=false
# lxml calls its elements' type `_Element`, and a comment's tag is no string; unknown tags are passed over.

import re

from lxml import etree

from app.knowledge.ingestion.errors import FileTooComplex, UnreadableFile
from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parsing.builder import DocumentBuilder
from app.knowledge.ingestion.parsing.characters import clean
from app.knowledge.ingestion.parsing.decoding import decode

_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_CHARSET_WITHIN_BYTES = 1024  # HTML living standard, §4.2.5.4: the declaration must be within the first 1024 bytes
_SKIPPED = {
    *("script", "style", "nav", "noscript", "template", "svg", "math", "iframe", "object", "canvas", "audio", "video"),
    *("button", "select", "textarea", "input", "dialog", "head", "footer"),
}
_SKIPPED_ROLES = {"navigation", "search", "banner", "contentinfo", "menu"}
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_INLINE = {
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins"),
    *("kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u"),
    *("var", "wbr", "picture", "ruby", "rb", "rt", "rp", "img"),
}
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


def parse(data: bytes) -> Document:
    """Raises: UnsupportedFile for binary data, UnreadableFile, FileTooComplex, NoTextFound."""
    charset = _CHARSET.search(data[:_CHARSET_WITHIN_BYTES])
    root = _tree(decode(data, charset[1].decode("ascii") if charset else None))
    title = root.findtext(".//title")
    builder = DocumentBuilder("html")
    main = root.find(".//main")
    _walk(builder, root if main is None else main)
    return builder.build(title)


def add_fragment(builder: DocumentBuilder, source: str) -> None:
    """The blocks of a piece of HTML, such as a block of it within Markdown."""
    if "<" in source and source.strip():
        _walk(builder, _tree(source))


def _tree(source: str) -> etree._Element:
    # `huge_tree` moves libxml2's bound on depth from 256 to 2048; beyond it the rest would be silently left out.
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(clean(source).encode() or b"<p></p>", parser)
    except etree.LxmlError as exc:
        if getattr(exc, "code", None) == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from exc
        raise UnreadableFile("The file could not be read as HTML.") from exc
    if any(error.type_name == "ERR_RESOURCE_LIMIT" for error in parser.error_log):
        raise FileTooComplex("The HTML is nested too deeply.")
    return etree.Element("html") if root is None else root


def _is_skipped(element: etree._Element) -> bool:
    tag = element.tag
    if tag == "footer":  # a page's footer is noise, an article's own may not be
        return not any(True for _ in element.iterancestors("article", "main", "section"))
    return (
        not isinstance(tag, str)
        or tag in _SKIPPED
        or "hidden" in element.attrib
        or element.get("aria-hidden") == "true"
        or element.get("role") in _SKIPPED_ROLES
        or _HIDDEN_STYLE.search(element.get("style", "")) is not None
    )


def _walk(builder: DocumentBuilder, root: etree._Element) -> None:
    state = _Flow(builder)
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        if event == "start":
            if _is_skipped(element):
                walker.skip_subtree()
                continue
            state.enter(element)
        else:
            if not _is_skipped(element):
                state.leave(element)
            if element is not root:
                state.text(element.tail)
    state.flush()


class _Flow:
    """Gathers the running text and turns it into a block wherever a block element begins or ends."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._text: list[str] = []
        self._lists: list[int | None] = []
        self._heading = 0
        self._item_begun = False
        self._pre = 0
        self._rows: list[list[str]] | None = None
        self._tables = 0

    def text(self, text: str | None) -> None:
        if text:
            self._text.append(text if self._pre else _SPACE.sub(" ", text))

    def flush(self) -> None:
        """End the running block, whatever it is."""
        text = "".join(self._text)
        self._text.clear()
        if not text.strip():
            return
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += " " + text
        elif self._pre:
            self._builder.code(text)
        elif self._heading:
            self._builder.heading(text, self._heading)
        elif self._item_begun and self._lists:
            self._list_item(text)
        else:
            self._builder.paragraph(text)

    def _list_item(self, text: str) -> None:
        self._item_begun = False
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        self._builder.list_item(text, level=len(self._lists), number=number)

    def enter(self, element: etree._Element) -> None:
        tag = str(element.tag)
        if tag == "br":
            self._text.append("\n")
        elif tag == "img":
            self.text(element.get("alt"))
        elif tag not in _INLINE:
            if tag != "dd":  # a definition joins its term: one item
                self.flush()
            self._open(tag, element)
        self.text(element.text)

    def _open(self, tag: str, element: etree._Element) -> None:
        match tag:
            case "ul" | "ol" | "dl":
                if not self._lists:
                    self._builder.end_list()
                start = element.get("start", "1")
                self._lists.append(None if tag != "ol" else int(start) if start.isdecimal() else 1)
            case "li" | "dt":
                self._item_begun = True
            case "pre":
                self._pre += 1
            case "table":
                self._tables += 1
                if self._rows is None and not _is_layout(element):
                    self._rows = []
            case "tr" if self._rows is not None:
                self._rows.append([])
            case "td" | "th" if self._rows:
                self._rows[-1].append("")
            case _ if tag in _HEADINGS:
                self._heading = _HEADINGS[tag]

    def leave(self, element: etree._Element) -> None:
        tag = str(element.tag)
        if tag in _INLINE or tag == "br":
            return
        if tag == "dt":
            self._text.append(": ")
            return
        self.flush()
        match tag:
            case "ul" | "ol" | "dl" if self._lists:
                self._lists.pop()
            case "li" | "dd":
                self._item_begun = False
            case "pre":
                self._pre = max(self._pre - 1, 0)
            case "table":
                self._tables -= 1
                if self._rows is not None and self._tables == 0:
                    rows, self._rows = self._rows, None
                    self._builder.table(rows)
            case _ if tag in _HEADINGS:
                self._heading = 0


def _is_layout(table: etree._Element) -> bool:
    """A table that arranges a page: others, headings or paragraphs of lists inside, or a single column."""
    if table.find(".//table") is not None or any(table.find(f".//{tag}") is not None for tag in ("h1", "h2", "h3")):
        return True
    return all(len(row) < 2 for row in table.iter("tr"))
