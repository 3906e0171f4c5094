"""DOCX → blocks with python-docx: headings by style, paragraphs, lists and tables in document order.

Text is read from the XML of each paragraph rather than `paragraph.text`, which leaves out inserted (tracked) text,
content controls and text boxes. Deleted text, tables of contents, headers, footers and comments stay out.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportMatchNotExhaustive=false
# lxml calls its elements' type `_Element`; python-docx's XML classes lack types; unknown tags are passed over.

import io
import zipfile
import zlib
from collections.abc import Iterator

import docx
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.ns import qn
from lxml import etree

from app.knowledge.ingestion.errors import EncryptedFile, FileTooComplex, UnreadableFile
from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parsing.builder import DocumentBuilder
from app.knowledge.ingestion.parsing.docx_styles import ParagraphStyles

MAX_UNCOMPRESSED_BYTES = 256 * 1024 * 1024
"""All parts together, pictures too: python-docx loads every part. Word's own picture-heavy files stay under 100 MB."""

MAX_XML_BYTES = 64 * 1024 * 1024
"""All XML parts together: some 3,000 pages of WordprocessingML. lxml's tree takes about ten times its source."""

MAX_TAGS = 4_000_000
"""Of all XML parts, beginnings and ends: 64 MB that Word wrote hold some 2.5 million. Ten million empty paragraphs fit
into 120 kB and took 30 s and 1.3 GB."""

MAX_PARTS = 10_000  # a picture or chart each: far beyond what one document holds

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError),
    *(PackageNotFoundError, etree.LxmlError, KeyError, ValueError, AttributeError),
)
_XML_LIMITS = {etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_ENTITY_LOOP}
"""libxml2's own: 256 levels, 10 MB in one text, entities that multiply."""

_TEXT, _TAB, _DELETED = qn("w:t"), qn("w:tab"), qn("w:del")
_BREAKS = {qn("w:br"), qn("w:cr")}
_HYPHEN = qn("w:noBreakHyphen")
_RUN_PROPERTIES = {qn("w:rPr"), qn("w:pPr")}
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # repeats its Choice for old Word
_SKIPPED = {_DELETED, qn("w:moveFrom"), qn("w:txbxContent"), _FALLBACK, *_RUN_PROPERTIES}
_PARAGRAPH, _TABLE, _TEXT_BOX = qn("w:p"), qn("w:tbl"), qn("w:txbxContent")
_CONTAINERS = {qn(f"w:{tag}") for tag in ("sdt", "sdtContent", "smartTag", "customXml", "ins", "moveTo")}


def parse(data: bytes) -> Document:
    """Raises: EncryptedFile, UnreadableFile, NoTextFound, FileTooComplex over the bounds, MemoryError."""
    try:
        _check_size(data)
        opened = docx.Document(io.BytesIO(data))
        if opened.element.getroottree().docinfo.doctype:
            # ECMA-376, part 2, §8.1.1.1 forbids it: entities can multiply, or name other files. None is resolved here.
            raise UnreadableFile("The DOCX file declares XML entities, which no DOCX file may.")
        builder = DocumentBuilder("docx")
        _add_all(builder, opened.element.body, ParagraphStyles(opened))
        return builder.build(opened.core_properties.title)
    except etree.XMLSyntaxError as exc:
        code = getattr(exc, "code", None)  # lxml-stubs do not know it
        if code in _XML_LIMITS:
            raise FileTooComplex("The XML in the DOCX file is too large or nested too deeply.") from exc
        if code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from exc
        raise UnreadableFile("The DOCX file is damaged or incomplete.") from exc
    except _DAMAGE as exc:
        raise UnreadableFile("The DOCX file is damaged or incomplete.") from exc


def _check_size(data: bytes) -> None:
    """`zipfile` never unpacks more of a part than its directory declares, so the declared sizes are a true bound."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
        if any(part.flag_bits & 0x1 for part in parts):
            raise EncryptedFile("The DOCX file is protected by a password.")
        xml_parts = [part for part in parts if part.filename.endswith((".xml", ".rels"))]
        xml_bytes = sum(part.file_size for part in xml_parts)
        all_bytes = sum(part.file_size for part in parts)
        is_large = len(parts) > MAX_PARTS or xml_bytes > MAX_XML_BYTES or all_bytes > MAX_UNCOMPRESSED_BYTES
        if is_large or sum(archive.read(part).count(b"<") for part in xml_parts) > MAX_TAGS:
            raise FileTooComplex("The DOCX file unpacks to more than one document may hold.")


def _add_all(builder: DocumentBuilder, parent: etree._Element, styles: ParagraphStyles) -> None:
    for block in _blocks(parent):
        if block.tag == _TABLE:
            _add_table(builder, block)
        else:
            _add_paragraph(builder, block, styles)


def _blocks(parent: etree._Element) -> Iterator[etree._Element]:
    """Paragraphs and tables in order, those in content controls and in text boxes included."""
    stack = [iter(parent)]
    while stack:
        element = next(stack[-1], None)
        if element is None:
            stack.pop()
        elif element.tag in _CONTAINERS:
            stack.append(iter(element))
        elif element.tag == _TABLE:
            yield element
        elif element.tag == _PARAGRAPH:
            yield element
            stack.extend(iter(box) for box in reversed(list(_text_boxes(element))))


def _text_boxes(paragraph: etree._Element) -> Iterator[etree._Element]:
    walker = etree.iterwalk(paragraph, events=("start",))
    for _, element in walker:
        if element.tag == _FALLBACK:
            walker.skip_subtree()
        elif element.tag == _TEXT_BOX:
            walker.skip_subtree()
            yield element


def _add_paragraph(builder: DocumentBuilder, paragraph: etree._Element, styles: ParagraphStyles) -> None:
    text = _text(paragraph)
    if not text.strip():
        return
    role = styles.role_of(paragraph)
    match role.kind:
        case "heading":
            builder.heading(text, role.level)
        case "list_item":
            builder.list_item(text, level=role.level, number=role.number)
        case "paragraph":
            builder.paragraph(text)


def _text(paragraph: etree._Element) -> str:
    parts: list[str] = []
    walker = etree.iterwalk(paragraph, events=("start",))
    for _, element in walker:
        if element.tag in _SKIPPED:
            walker.skip_subtree()
        elif element.tag == _TEXT:
            parts.append(element.text or "")
        elif element.tag == _TAB:
            parts.append("\t")
        elif element.tag in _BREAKS:
            parts.append("\n")
        elif element.tag == _HYPHEN:
            parts.append("-")
    return "".join(parts)


def _add_table(builder: DocumentBuilder, table: etree._Element) -> None:
    """One row a line; a cell's paragraphs and nested tables run together. A table of one column is paragraphs."""
    rows = [
        [" ".join(_text(paragraph) for paragraph in cell.iter(_PARAGRAPH)) for cell in row.iterchildren(qn("w:tc"))]
        for row in table.iterchildren(qn("w:tr"))
    ]
    if all(len(row) < 2 for row in rows):
        for row in rows:
            builder.paragraph(" ".join(row))
    else:
        builder.table(rows)
