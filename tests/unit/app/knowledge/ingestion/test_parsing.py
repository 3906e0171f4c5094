"""Real files of every format become the text that a reader would read, with true places of its blocks."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.knowledge.ingestion.errors import DocumentError, FileTooComplex
from app.knowledge.ingestion.model import Block, Document
from app.knowledge.ingestion.parsing import parse
from documents import samples


def texts(document: Document, kind: str) -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks if b.kind == kind]


def check_shape(document: Document) -> None:
    """What `ingestion.model` promises of every document."""
    position = 0
    for block in document.blocks:
        assert block.start >= position
        assert not document.text[position : block.start].strip()
        assert document.text[block.start : block.end].strip()
        position = block.end
    assert position == len(document.text)
    assert unicodedata.is_normalized("NFC", document.text)
    assert not {c for c in document.text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"}


def test_markdown_keeps_structure_and_drops_marks() -> None:
    """Headings with levels, lists with numbers and nesting, tables, code; links and emphasis as plain words."""
    source = (
        "---\ntitle: 'Die Übersicht'\n---\n# Größe\n\nEin *wichtiger* [Verweis](http://x) mit `code`\nüber zwei Zeilen."
        "\n\n3. drei\n   - innen\n4. vier\n\n| A | B |\n|---|---|\n| **1** | 2 |\n\n```py\nx = 1\n\n  y\n```\n"
    )
    document = parse(source.encode(), "a.md")
    check_shape(document)
    assert document.title == "Die Übersicht"
    assert texts(document, "heading") == ["Größe"]
    assert texts(document, "paragraph") == ["Ein wichtiger Verweis mit code über zwei Zeilen."]
    assert texts(document, "list_item") == ["3. drei", "- innen", "4. vier"]
    assert texts(document, "table") == ["A | B\n1 | 2"]
    assert texts(document, "code") == ["```\nx = 1\n\n  y\n```"]
    assert [b.level for b in document.blocks if b.kind == "list_item"] == [1, 2, 1]


def test_html_keeps_what_is_read_and_drops_the_rest() -> None:
    """No script, style, navigation, footer or hidden element; lists, tables and definitions as blocks."""
    document = parse(samples.WEB_PAGE.read_bytes(), "seite")
    check_shape(document)
    assert document.parser == "html"
    assert document.title == "Lieferbedingungen – Kontor Süd"
    for gone in ("nicht lesen", "green", "AGB", "Impressum", "unsichtbar"):
        assert gone not in document.text
    assert (
        texts(document, "paragraph")[0] == "Wir liefern innerhalb von drei Werktagen frei Haus.\nInseln dauern länger."
    )
    assert texts(document, "table") == ["Gewicht | Preis\nbis 5 kg | 4,90 €\nbis 31 kg | 9,90 €"]
    assert "- Frist: 30 Tage" in texts(document, "list_item")


def test_pdf_words_divided_at_line_ends_are_whole_again() -> None:
    """Joined where the hyphen is the line's, kept where it is the word's, with a space where it stands for a word."""
    document = parse(samples.pdf(), "merkblatt.pdf")
    check_shape(document)
    assert "zweifacher Ausfertigung" in document.text
    assert "E-Mail-Nachricht" in document.text
    assert "Ein- und Auslagerungen" in document.text


def test_pdf_has_headings_pages_and_no_running_lines() -> None:
    """Bigger lines are headings, each block knows its page, running heads and page numbers are gone."""
    document = parse(samples.pdf(), "merkblatt.pdf")
    assert [(document.text[b.start : b.end], b.page) for b in document.blocks if b.kind == "heading"] == [
        ("1 Anlieferung", 1),
        ("2 Prüfung", 2),
        ("3 Rückgabe", 3),
    ]
    assert texts(document, "list_item") == ["- Fragen beantwortet das Lagerbüro."] * 3
    assert "Merkblatt Wareneingang" not in document.text
    assert "Seite 1" not in document.text
    assert document.title == "Merkblatt"


def test_pdf_rows_with_wide_gaps_are_a_table() -> None:
    """The columns of a table are told apart, its bold header included."""
    document = parse(samples.pdf(), "merkblatt.pdf")
    assert texts(document, "table") == ["Art | Frist\nSperrware | 14 Tage\nLeergut | 6 Wochen"]


def test_pdf_ligatures_and_umlauts_are_letters() -> None:
    """`Pﬂicht` would not be found by `Pflicht`."""
    content = b"BT /F1 12 Tf 40 100 Td (P\002icht, Kon\001guration, \003ber, scha\004en) Tj ET"
    document = parse(samples.raw_pdf(content, b"/fi /fl /udieresis /ff"), "a.pdf")
    assert document.text == "Pflicht, Konfiguration, über, schaffen"


def test_docx_keeps_document_order_and_levels() -> None:
    """Headings by style under the title, numbered and nested items, the table where it stands."""
    document = parse(samples.word(), "anweisung.docx")
    check_shape(document)
    assert document.title == "Dienstanweisung"
    assert [(b.kind, b.level) for b in document.blocks] == [
        ("heading", 1),
        ("heading", 2),
        ("paragraph", 0),
        *[("list_item", 1)] * 3,
        ("table", 0),
        ("heading", 3),
        ("paragraph", 0),
        ("list_item", 1),
        ("list_item", 2),
    ]
    assert texts(document, "list_item")[:3] == ["1. Antrag ausfüllen", "2. Ausweis vorlegen", "3. Schlüssel quittieren"]
    assert texts(document, "table") == ["Bereich | Zuständig\nTor Süd | Pförtner\nBüro | Empfang"]


def test_docx_tracked_changes_read_as_accepted() -> None:
    """Deleted text is gone, inserted text and content controls are read."""
    document = parse(samples.word(with_tracked_changes=True), "anweisung.docx")
    assert "Frist: drei" in document.text
    assert "zwei" not in document.text
    assert "Im Steuerelement." in document.text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("Größe – “x”".encode(), "Größe – “x”"),
        (b"\xef\xbb\xbf" + "Größe".encode(), "Größe"),
        ("Größe".encode("utf-16"), "Größe"),
        (b"\xfe\xff" + "Größe".encode("utf-16-be"), "Größe"),
        ("Größe über 5 € – „gut“".encode("cp1252"), "Größe über 5 € – „gut“"),
        ("Übergröße ä ö ü ".encode()[:-1] + b"\xc3", "Übergröße ä ö ü\ufffd"),
        (b"nul\x00 and \x07bell in a longer line", "nul and bell in a longer line"),
        ("u\u0308ber so\u00adfort \u200bda\u00a0ja".encode(), "über sofort da ja"),
    ],
    ids=["utf-8", "bom", "utf-16-le", "utf-16-be", "cp1252", "cut", "control", "invisible"],
)
def test_text_is_decoded_and_cleaned(data: bytes, expected: str) -> None:
    """Encodings are told apart; what cannot be stored or seen is removed; the text is NFC."""
    assert parse(data, "a.txt").text == expected


def test_text_wrapped_lines_are_joined_and_deliberate_breaks_kept() -> None:
    """A line that ended because the next word did not fit goes on; an address stays an address."""
    source = (
        "Dieser Absatz wurde von einem Mailprogramm bei siebzig Zeichen\n"
        "umgebrochen, obwohl er weitergeht, und das soll man ihm hinterher\n"
        "nicht ansehen.\n\nKontor Süd\nHafenstr. 3\n\n2.1 Geltung\n\n* eins\n* zwei\n"
    )
    document = parse(source.encode(), "brief.txt")
    check_shape(document)
    assert texts(document, "paragraph") == [
        "Dieser Absatz wurde von einem Mailprogramm bei siebzig Zeichen umgebrochen, obwohl er weitergeht, und das "
        "soll man ihm hinterher nicht ansehen.",
        "Kontor Süd\nHafenstr. 3",
    ]
    assert texts(document, "heading") == ["2.1 Geltung"]
    assert texts(document, "list_item") == ["- eins", "- zwei"]


def test_text_that_is_markdown_is_read_as_markdown() -> None:
    """People name Markdown .txt."""
    assert parse(b"# A\n\ntext\n\n## B\n\n- x\n", "a.txt").parser == "markdown"
    assert parse(b"# comment\nx = 1\n# comment\ny = 2\n", "a.txt").parser == "text"


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.txt", "empty_file"),
        (b" \n\t ", "a.md", "empty_file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "notes.txt", "unsupported_file"),
        (bytes(range(256)) * 8, "notes.txt", "unsupported_file"),
        (b"\x7fELF" + bytes(60), "notes.md", "unsupported_file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64), "old.doc", "unsupported_file"),
        (samples.workbook(), "a.docx", "unsupported_file"),
        (b"PK\x03\x04 and then nothing", "a.docx", "unreadable_file"),
        (samples.word()[:4000], "a.docx", "unreadable_file"),
        (b"%PDF-1.7\n garbage", "a.pdf", "unreadable_file"),
        (b"just words", "a.pdf", "unreadable_file"),
        (samples.encrypted_pdf(), "a.pdf", "encrypted_file"),
        (b"\xff\xfe\x00", "a.txt", "unreadable_file"),
        (samples.scanned_pdf(), "a.pdf", "no_text_found"),
        (b"<!doctype html><script>x()</script>", "a.html", "no_text_found"),
        (samples.zip_bomb_word(declared_mb=70), "a.docx", "file_too_complex"),
    ],
)
def test_files_that_cannot_be_read_say_why(data: bytes, name: str, code: str) -> None:
    """A stable code and a message for the uploader, never a traceback of a library."""
    with pytest.raises(DocumentError) as caught:
        parse(data, name)
    assert caught.value.code == code
    assert not caught.value.retryable
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("name", ["bericht.txt", "bericht.md", "bericht", "bericht.html"])
def test_content_decides_before_the_name(name: str) -> None:
    """A PDF is a PDF whatever it is called."""
    assert parse(samples.pdf(), name, "text/plain").parser == "pdf"


def test_declared_content_type_decides_where_the_name_does_not() -> None:
    """An upload without an extension."""
    assert parse(b"**a** b", "notes", "text/markdown; charset=utf-8").text == "a b"
    assert parse(b"**a** b", "notes").text == "**a** b"


def test_deep_nesting_is_bounded() -> None:
    """Depth costs no stack: it is read, or refused, and never crashes."""
    assert "tief" in parse(b"<!doctype html>" + b"<div>" * 1000 + b"tief", "a.html").text
    with pytest.raises(FileTooComplex):
        parse(b"<!doctype html>" + b"<div>" * 5000 + b"tief", "a.html")
    for mark in (b"> ", b"- "):
        assert "tief" in parse(mark * 50 + b"tief", "a.md").text
        with pytest.raises(FileTooComplex):
            parse(mark * 2000 + b"tief", "a.md")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400), st.sampled_from(["a.md", "a.txt", "a.html"]))
def test_any_text_becomes_a_document_of_the_promised_shape(text: str, name: str) -> None:
    """Whatever is in a text file: blocks cover it, NFC, nothing that Postgres cannot store."""
    try:
        document = parse(text.encode("utf-8", "replace"), name)
    except DocumentError:
        return
    check_shape(document)
    assert all(isinstance(block, Block) for block in document.blocks)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"%PDF-1.4\n", b"PK\x03\x04", b"<html>", b""]))
def test_any_bytes_are_read_or_refused(data: bytes, start: bytes) -> None:
    """Only errors of our own leave the parser."""
    try:
        check_shape(parse(start + data, "a.bin"))
    except DocumentError:
        return
