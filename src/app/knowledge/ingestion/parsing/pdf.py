"""PDF → blocks with PDFium, page by page: lines become paragraphs by their geometry, headings by their type size.

A PDF has no paragraphs, only placed characters. What is rebuilt here: words divided at line ends, paragraphs (by
gaps, indents and short lines), headings (bigger or bold lines), and running heads and page numbers are left out.
"""

# pyright: reportMissingTypeStubs=false
# pypdfium2 has no stubs.

from collections.abc import Iterator

import pypdfium2 as pdfium

from app.knowledge.ingestion.errors import EncryptedFile, TooManyPages, UnreadableFile
from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parsing.builder import DocumentBuilder
from app.knowledge.ingestion.parsing.pdf_layout import add_blocks
from app.knowledge.ingestion.parsing.pdf_lines import Line, page_lines

MAX_PAGES = 5000  # the longest handbooks have some thousand; PDFium takes 1–10 ms a page, so this stays under a minute

_ENCRYPTED = 4  # FPDF_ERR_PASSWORD of fpdfview.h


def parse(data: bytes) -> Document:
    """Raises: EncryptedFile, UnreadableFile, NoTextFound when it is only images, TooManyPages, FileTooComplex."""
    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as exc:
        if getattr(exc, "err_code", None) == _ENCRYPTED:
            raise EncryptedFile("The PDF is protected by a password.") from exc
        raise UnreadableFile("The PDF is damaged or incomplete.") from exc
    try:
        if len(pdf) > MAX_PAGES:
            raise TooManyPages(f"The PDF has {len(pdf):,} pages; {MAX_PAGES:,} are read at most.")
        builder = DocumentBuilder("pdf")
        add_blocks(builder, list(_pages(pdf)))
        return builder.build(pdf.get_metadata_dict().get("Title"))
    except pdfium.PdfiumError as exc:
        raise UnreadableFile("The PDF is damaged or incomplete.") from exc
    finally:
        pdf.close()


def _pages(pdf: pdfium.PdfDocument) -> Iterator[list[Line]]:
    for number in range(len(pdf)):
        page = pdf[number]
        try:
            text_page = page.get_textpage()
            try:
                yield page_lines(text_page, number + 1)
            finally:
                text_page.close()
        finally:
            page.close()
