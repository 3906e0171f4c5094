"""The handbook as DOCX: real heading, list and title styles, so that readers and WattOS itself see the structure."""

import io
import re
import zipfile

import docx
from docx.document import Document as DocxDocument
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_TAB_ALIGNMENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor
from docx.table import _Cell
from docx.text.paragraph import Paragraph
from handbook_source import INK, LINE, SHADE, Block, Runs, Source


def build_docx(source: Source) -> bytes:
    document = docx.Document()
    _set_up(document, source)
    document.add_paragraph(source.meta["title"], style="Title")
    document.add_paragraph(source.meta["subtitle"], style="Subtitle")
    document.add_paragraph(source.stand, style="Stand")
    numbered = 0
    for block in source.blocks:
        match block.kind:
            case "heading":
                document.add_heading("".join(text for text, _ in block.runs), block.number)
            case "table":
                _add_table(document, block)
            case "item" if block.number:
                numbered += block.number == 1
                if numbered > 1:
                    raise ValueError("a second numbered list would go on counting: give it its own w:num first")
                _fill(document.add_paragraph(style="List Number"), block.runs)
            case "item":
                _fill(document.add_paragraph(style="List Bullet"), block.runs)
            case "code":
                document.add_paragraph(block.runs[0][0], style="Code")
            case "paragraph":
                _fill(document.add_paragraph(), block.runs)
    raw, fixed = io.BytesIO(), io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(fixed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if not name.endswith("thumbnail.jpeg"):  # of python-docx's empty template; its relationship goes below
                data = old.read(name)
                if name == "_rels/.rels":
                    data = re.sub(rb"<Relationship [^>]*thumbnail[^>]*/>", b"", data)
                new.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return fixed.getvalue()


def _set_up(document: DocxDocument, source: Source) -> None:
    core = document.core_properties
    core.title, core.subject, core.author = source.meta["title"], source.meta["subject"], "WattOS"
    core.last_modified_by, core.comments, core.language, core.revision = "WattOS", "", "de-DE", 1
    core.created = core.modified = source.date.replace(tzinfo=None)
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm(2.5)
    section.top_margin = section.bottom_margin = Cm(2.2)
    _set_up_styles(document)
    footer = section.footer.paragraphs[0]
    tab_stops = document.styles["Footer"].paragraph_format.tab_stops
    tab_stops.clear_all()
    tab_stops.add_tab_stop(Cm(16), WD_TAB_ALIGNMENT.RIGHT)
    footer.add_run(f"{source.meta['title']}\tSeite\u00a0")
    _add_field(footer, "PAGE")
    footer.add_run(" von\u00a0")
    _add_field(footer, "NUMPAGES")


def _set_up_styles(document: DocxDocument) -> None:
    styles = document.styles
    language = styles.element.find(".//" + qn("w:lang"))
    language.set(qn("w:val"), "de-DE")
    code = styles.add_style("Code", WD_STYLE_TYPE.PARAGRAPH)
    code.base_style = styles["Normal"]
    code.paragraph_format.keep_together = True
    code.element.get_or_add_pPr().append(_element("w:shd", val="clear", color="auto", fill=SHADE))
    inline = styles.add_style("Code Inline", WD_STYLE_TYPE.CHARACTER)
    styles.add_style("Stand", WD_STYLE_TYPE.PARAGRAPH).base_style = styles["Normal"]
    for name, size, before, after in (
        ("Normal", 10.5, 0, 6), ("Title", 24, 0, 4), ("Subtitle", 13, 0, 4), ("Stand", 9.5, 0, 14),
        ("Heading 1", 15, 16, 5), ("Heading 2", 12, 12, 4), ("Footer", 9, 0, 0), ("Code", 9, 2, 8),
        ("List Bullet", 10.5, 0, 3), ("List Number", 10.5, 0, 3),
    ):  # fmt: skip
        style = styles[name]
        style.font.size, style.font.italic = Pt(size), False
        style.paragraph_format.space_before, style.paragraph_format.space_after = Pt(before), Pt(after)
        style.paragraph_format.line_spacing = 1.0 if name == "Code" else 1.15
        _set_font(style.element.get_or_add_rPr(), "Consolas" if name == "Code" else "Calibri")
        if name.startswith(("Title", "Subtitle", "Heading")):
            style.font.color.rgb = RGBColor.from_string(INK)
    inline.font.size = Pt(9.5)
    _set_font(inline.element.get_or_add_rPr(), "Consolas")


def _set_font(properties: OxmlElement, family: str) -> None:
    """Theme fonts win over named ones, so they go."""
    for old in properties.findall(qn("w:rFonts")):
        properties.remove(old)
    properties.insert(0, _element("w:rFonts", ascii=family, hAnsi=family, cs=family, eastAsia=family))


def _add_table(document: DocxDocument, block: Block) -> None:
    table = document.add_table(len(block.rows), len(block.widths), style="Table Grid")
    table.autofit = False
    borders = _element("w:tblBorders")
    for side in ("top", "left", "bottom", "right", "insideH", "insideV"):
        borders.append(_element(f"w:{side}", val="single", sz="4", space="0", color=LINE))
    # Word wants these in the schema's order: before the layout. 108 twips are a cell's margin: borders meet the text.
    layout = table._tbl.tblPr.find(qn("w:tblLayout"))
    layout.addprevious(_element("w:tblInd", w="108", type="dxa"))
    layout.addprevious(borders)
    for column, width in zip(table.columns, block.widths, strict=True):
        column.width = Cm(16 * width)
    for number, (row, texts) in enumerate(zip(table.rows, block.rows, strict=True)):
        row._tr.get_or_add_trPr().append(_element("w:cantSplit"))
        if number == 0:
            row._tr.get_or_add_trPr().append(_element("w:tblHeader"))
        for cell, runs, width in zip(row.cells, texts, block.widths, strict=True):
            _fill_cell(cell, runs, Cm(16 * width), is_header=number == 0)
    document.add_paragraph().paragraph_format.space_after = Pt(2)


def _fill_cell(cell: _Cell, runs: Runs, width: int, *, is_header: bool) -> None:
    cell.width = width
    paragraph = cell.paragraphs[0]
    paragraph.paragraph_format.space_before = paragraph.paragraph_format.space_after = Pt(2)
    paragraph.paragraph_format.line_spacing = 1.0
    paragraph.paragraph_format.keep_with_next = is_header
    if is_header:
        cell._tc.get_or_add_tcPr().append(_element("w:shd", val="clear", color="auto", fill=SHADE))
    _fill(paragraph, [(text, "strong") for text, _ in runs] if is_header else runs, size=Pt(9.5))


def _fill(paragraph: Paragraph, runs: Runs, size: int | None = None) -> None:
    for text, mark in runs:
        run = paragraph.add_run(text, style="Code Inline" if mark == "code" else None)
        run.bold = True if mark == "strong" else None
        if size is not None:
            run.font.size = Pt(8.5) if mark == "code" else size


def _add_field(paragraph: Paragraph, instruction: str) -> None:
    field = _element("w:fldSimple", instr=instruction)
    paragraph._p.append(field)
    field.append(_element("w:r"))
    text = _element("w:t")
    text.text = "1"  # shown until the reader's program has counted the pages
    field[0].append(text)


def _element(tag: str, **attributes: str) -> OxmlElement:
    element = OxmlElement(tag)
    for name, value in attributes.items():
        element.set(qn(f"w:{name}"), value)
    return element
