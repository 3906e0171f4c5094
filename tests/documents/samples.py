"""Small documents of every format, made here so that what is in them can be read beside the tests."""

import io
import zipfile
from pathlib import Path

import docx
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from fpdf import FPDF

HERE = Path(__file__).parent
GERMAN_HANDBOOK = HERE / "betriebshandbuch.de.md"
ENGLISH_HANDBOOK = HERE / "operations-handbook.en.md"
WEB_PAGE = HERE / "lieferbedingungen.html"

CHAPTERS = (
    (
        "1 Anlieferung",
        "Ware wird werktags von 7 bis 15 Uhr angenommen. Jede Lieferung braucht einen Lieferschein in zweifacher "
        "Ausfer-\ntigung, der die Auftragsnummer trägt. Übergroße Stücke, d. h. solche über 2,40 m Länge, sind "
        "zwei Tage vorher per E-Mail-\nNachricht anzumelden.",
    ),
    (
        "2 Prüfung",
        "Die Wareneingangsprüfung umfasst Menge, Zustand und Kennzeichnung. Beschädigte Stücke werden fotografiert und "
        "im Sperrlager abgestellt. Ein-\nund Auslagerungen gehören nicht dazu.",
    ),
    (
        "3 Rückgabe",
        "Leergut geht am Freitag zurück. Größere Mengen holt die Spedition nach Absprache auch an anderen Tagen.",
    ),
)


def pdf() -> bytes:
    """Three pages of German with a running head, page numbers, headings and words divided at line ends."""

    class Paper(FPDF):
        def header(self) -> None:
            self.set_font("Helvetica", size=8)
            self.cell(0, 8, "Merkblatt Wareneingang", new_x="LMARGIN", new_y="NEXT")

        def footer(self) -> None:
            self.set_y(-15)
            self.set_font("Helvetica", size=8)
            self.cell(0, 8, f"Seite {self.page_no()} von 3", align="C")

    paper = Paper()
    paper.set_title("Merkblatt")
    for number, (heading, text) in enumerate(CHAPTERS):
        paper.add_page()
        paper.set_font("Helvetica", "B", 16)
        paper.cell(0, 12, heading, new_x="LMARGIN", new_y="NEXT")
        paper.set_font("Helvetica", size=11)
        paper.multi_cell(0, 6, text, align="L", new_x="LMARGIN", new_y="NEXT")
        if number == 1:
            _add_table(paper)
        paper.ln(6)
        paper.multi_cell(0, 6, "- Fragen beantwortet das Lagerbüro.", new_x="LMARGIN", new_y="NEXT")
    return bytes(paper.output())


def _add_table(paper: FPDF) -> None:
    paper.ln(6)
    for row in (("Art", "Frist"), ("Sperrware", "14 Tage"), ("Leergut", "6 Wochen")):
        paper.set_font(style="B" if row[0] == "Art" else "")
        for cell in row:
            paper.cell(40, 8, cell)
        paper.ln(8)


def encrypted_pdf() -> bytes:
    paper = FPDF()
    paper.add_page()
    paper.set_font("Helvetica", size=11)
    paper.cell(0, 6, "Geheim")
    paper.set_encryption(owner_password="besitz", user_password="lesen")
    return bytes(paper.output())


def scanned_pdf() -> bytes:
    """A page with a drawing and no text."""
    paper = FPDF()
    paper.add_page()
    paper.rect(20, 20, 80, 40)
    return bytes(paper.output())


def raw_pdf(content: bytes, differences: bytes) -> bytes:
    """One page with the given content stream; `differences` maps codes from 1 on to glyph names of font F1."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica"
        b"/Encoding<</Type/Encoding/BaseEncoding/WinAnsiEncoding/Differences[1 %s]>>>>" % differences,
    ]
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def word(*, with_tracked_changes: bool = False) -> bytes:
    """Title, headings, a numbered list, bullets on two levels, a table, and a content control's paragraph."""
    document = docx.Document()
    document.core_properties.title = "Dienstanweisung"
    document.add_heading("Dienstanweisung Schlüssel", 0)
    document.add_heading("Ausgabe", 1)
    paragraph = document.add_paragraph("Schlüssel werden nur gegen ")
    paragraph.add_run("Unterschrift").bold = True
    paragraph.add_run(" ausgegeben.")
    for text in ("Antrag ausfüllen", "Ausweis vorlegen", "Schlüssel quittieren"):
        document.add_paragraph(text, style="List Number")
    table = document.add_table(rows=0, cols=2)
    for cells in (("Bereich", "Zuständig"), ("Tor Süd", "Pförtner"), ("Büro", "Empfang")):
        row = table.add_row().cells
        row[0].text, row[1].text = cells
    document.add_heading("Verlust", 2)
    document.add_paragraph("Ein Verlust ist sofort zu melden:", style="Normal")
    document.add_paragraph("beim Pförtner", style="List Bullet")
    document.add_paragraph("rund um die Uhr", style="List Bullet 2")
    if with_tracked_changes:
        _add_tracked_changes(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _add_tracked_changes(document: "docx.document.Document") -> None:
    paragraph = document.add_paragraph("Frist: ")
    for tag, text_tag, text in (("w:del", "w:delText", "zwei"), ("w:ins", "w:t", "drei")):
        change, run, content = OxmlElement(tag), OxmlElement("w:r"), OxmlElement(text_tag)
        content.text = text
        run.append(content)
        change.append(run)
        paragraph._p.append(change)
    control, inner, held = OxmlElement("w:sdt"), OxmlElement("w:sdtContent"), OxmlElement("w:p")
    run, content = OxmlElement("w:r"), OxmlElement("w:t")
    content.text = "Im Steuerelement."
    run.append(content)
    held.append(run)
    inner.append(held)
    control.append(inner)
    document.element.body.insert(len(document.element.body) - 1, control)
    assert control.tag == qn("w:sdt")


def zip_bomb_word(*, declared_mb: int) -> bytes:
    """A DOCX whose main part unpacks to so many megabytes of zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w") as part:
            for _ in range(declared_mb):
                part.write(bytes(1024 * 1024))
    return out.getvalue()


def workbook() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return out.getvalue()
