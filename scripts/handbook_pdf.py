"""The handbook as PDF, with an outline, in the standard fonts: no font file is needed to build it."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from fpdf import FPDF, FontFace
from handbook_source import INK, LINE, SHADE, Block, Runs, Source

HEADING_NEEDS_MM = 32  # itself and three lines of what it heads


class Pdf(FPDF):
    """The standard fonts in Windows-1252: German, its quotation marks and dashes, and no font file to ship."""

    def __init__(self, source: Source, n_pages: int) -> None:
        super().__init__(format="A4")
        self.core_fonts_encoding = "cp1252"
        self.source, self.n_pages = source, n_pages
        self.set_margins(25, 20, 25)
        self.c_margin = 0.0  # text and tables share their left edge
        self.set_auto_page_break(True, margin=21)
        self.set_title(source.meta["title"])
        self.set_subject(source.meta["subject"])
        self.set_author("WattOS")
        self.set_lang("de-DE")
        self.set_creation_date(source.date)

    def footer(self) -> None:
        self.set_y(-16)
        self.set_font("Helvetica", size=8.5)
        self.set_text_color(90)
        self.cell(0, 5, self.source.meta["title"])
        self.set_x(self.l_margin)
        self.cell(0, 5, f"Seite\u00a0{self.page_no()} von\u00a0{self.n_pages}", align="R")
        self.set_text_color(0)

    def line_of_text(self, text: str, size: float, style: str, height: float, after: float) -> None:
        self.set_font("Helvetica", style, size)
        self.set_text_color("#" + INK)
        self.multi_cell(0, height, text, align="L", new_x="LMARGIN", new_y="NEXT")
        self.set_text_color(0)
        self.ln(after)

    def add_text(self, runs: Runs, *, bullet: str = "", after: float = 2.6) -> None:
        self.set_font("Helvetica", size=10.5)
        indent = 6 if bullet else 0
        with (
            self.text_columns(text_align="LEFT", line_height=1.32) as column,
            column.paragraph(indent=indent, bullet_string=bullet, bullet_r_margin=2, bottom_margin=after) as paragraph,
        ):
            for text, mark in runs:
                is_code = mark == "code"
                self.set_font("Courier" if is_code else "Helvetica", "B" if mark == "strong" else "", 10.5)
                paragraph.write(text)

    def keep_whole(self, draw: Callable[["Pdf"], None]) -> None:
        """Draw on the next page what does not fit whole on this one."""
        with self.offset_rendering() as trial:
            draw(trial)
        if trial.page_break_triggered:
            self.add_page()
        draw(self)

    def add_heading(self, block: Block) -> None:
        if self.will_page_break(HEADING_NEEDS_MM):
            self.add_page()
        self.ln(3)
        title = "".join(text for text, _ in block.runs)
        self.start_section(title, block.number - 1)
        self.line_of_text(title, 14.5 if block.number == 1 else 12, "B", 7, 1.5)

    def add_table(self, block: Block) -> None:
        self.set_font("Helvetica", size=9.5)
        self.ln(1)
        self.set_draw_color("#" + LINE)
        heading = FontFace(emphasis="BOLD", fill_color="#" + SHADE)
        with self.table(
            col_widths=block.widths,
            text_align="LEFT",
            line_height=4.8,
            padding=1.1,
            headings_style=heading,
            v_align="TOP",
        ) as table:
            for runs_of_row in block.rows:
                row = table.row()
                for runs in runs_of_row:
                    is_code = all(mark == "code" for _, mark in runs)
                    row.cell("".join(text for text, _ in runs), style=FontFace("Courier") if is_code else None)
        self.ln(4.5)


def build_pdf(source: Source) -> bytes:
    """Set twice: the second time the number of pages is known."""
    return bytes(_typeset(source, _typeset(source, 0).page_no()).output())


def _typeset(source: Source, n_pages: int) -> Pdf:
    pdf = Pdf(source, n_pages)
    pdf.add_page()
    pdf.line_of_text(source.meta["title"], 22, "B", 10, 1)
    pdf.line_of_text(source.meta["subtitle"], 12.5, "", 6, 1.5)
    pdf.line_of_text(source.stand, 9.5, "", 5, 5)
    for block, following in pairwise([*source.blocks, None]):
        assert block is not None
        goes_on = following is not None and following.kind == "item"
        match block.kind:
            case "heading":
                pdf.add_heading(block)
            case "table":
                pdf.keep_whole(partial(Pdf.add_table, block=block))
            case "item":
                bullet = f"{block.number}." if block.number else "•"
                pdf.keep_whole(partial(Pdf.add_text, runs=block.runs, bullet=bullet, after=1.2 if goes_on else 2.6))
            case "paragraph":
                pdf.keep_whole(partial(Pdf.add_text, runs=block.runs))
            case "code":
                raise ValueError("the PDF builder sets no code blocks yet")
    return pdf
