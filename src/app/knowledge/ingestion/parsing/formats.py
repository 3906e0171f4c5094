"""Which format do these bytes have? Content first (magic bytes), then the name, then the declared content type."""

import io
import re
import zipfile
from pathlib import PurePath
from typing import Literal

from app.knowledge.ingestion.errors import UnreadableFile, UnsupportedFile

Format = Literal["markdown", "text", "html", "pdf", "docx"]

READABLE = "Markdown, plain text, HTML, PDF and DOCX"
PDF_HEADER_WITHIN_BYTES = 1024  # ISO 32000-1, annex H.3.4.1: readers accept the header anywhere in the first 1024 bytes

_FOREIGN = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"RIFF", "a WebP image, or sound or video"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (.doc, .xls, .ppt) or an encrypted one"),
    (b"{\\rtf", "an RTF file"),
    (b"%!PS", "a PostScript file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"ID3", "sound"),
    (b"OggS", "sound or video"),
    (b"\x1aE\xdf\xa3", "video"),
)
"""Signatures from the formats' own specifications; only to say what the file is instead of what it is not."""

_ZIP_KINDS = (
    ("xl/", "an Excel workbook"),
    ("ppt/", "a PowerPoint presentation"),
    ("META-INF/container.xml", "an EPUB book"),
    ("content.xml", "an OpenDocument file"),
)
_BINARY_NAMES = {
    ".pdf": "PDF",
    ".docx": "DOCX",
    ".doc": "Word",
    ".xlsx": "Excel",
    ".pptx": "PowerPoint",
    ".odt": "OpenDocument",
    ".zip": "ZIP",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
}
_BY_SUFFIX: dict[str, Format] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdown": "markdown",
    ".mkd": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
_BY_CONTENT_TYPE: dict[str, Format] = {
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
}
_HTML_START = re.compile(rb"(?:<\?xml[^>]*\?>|<!--.*?-->|\s)*<(?:!doctype\s+html|html[\s>])", re.IGNORECASE | re.DOTALL)
_MARKDOWN_HEADING = re.compile(rb"(?:\A|\n[ \t]*\r?\n)#{1,4} [^\r\n]+(?=\r?\n[ \t]*\r?\n)")
_MARKDOWN_WITHIN_BYTES = 65_536
MIN_MARKDOWN_HEADINGS = 2  # `# ` lines that stand alone between blank lines; comments in scripts seldom do, twice
_HTML_START_WITHIN_BYTES = 2048  # licence comments before <html> are seldom longer; bounds the regular expression


def detect(data: bytes, filename: str, content_type: str | None) -> Format:
    """The format to read `data` as; text of any other name (.log, .csv, .rst) is plain text, .txt may be Markdown.

    Raises: UnsupportedFile for known other kinds, UnreadableFile when the name promises a format the bytes are not.
    """
    if b"%PDF-" in data[:PDF_HEADER_WITHIN_BYTES]:
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        return _zip_kind(data)
    for signature, kind in _FOREIGN:
        if data.startswith(signature) and _is_binary_signature(signature, data):
            raise UnsupportedFile(f"This is {kind}; {READABLE} can be read.")
    if data[4:8] == b"ftyp":
        raise UnsupportedFile(f"This is video; {READABLE} can be read.")
    suffix = PurePath(filename).suffix.lower()
    if suffix in _BINARY_NAMES:
        raise UnreadableFile(f"The file is named {suffix}, but it is not a {_BINARY_NAMES[suffix]} file.")
    if _HTML_START.match(data.removeprefix(b"\xef\xbb\xbf")[:_HTML_START_WITHIN_BYTES]):
        return "html"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix not in ("", ".txt", ".text"):
        return "text"
    if len(_MARKDOWN_HEADING.findall(data[:_MARKDOWN_WITHIN_BYTES])) >= MIN_MARKDOWN_HEADINGS:
        return "markdown"
    return _BY_CONTENT_TYPE.get((content_type or "").split(";", 1)[0].strip().lower(), "text")


def _is_binary_signature(signature: bytes, data: bytes) -> bool:
    """Signatures of plain letters (`MZ`, `ID3`, `RIFF`) may also begin a text: there a control byte must follow."""
    if not signature.isalnum():
        return True
    return any(byte < 0x09 for byte in data[:64])


def _zip_kind(data: bytes) -> Format:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as exc:
        raise UnreadableFile("The file is a damaged or incomplete ZIP container (DOCX files are such).") from exc
    if "word/document.xml" in names or ("[Content_Types].xml" in names and any(n.startswith("word/") for n in names)):
        return "docx"
    for prefix, kind in _ZIP_KINDS:
        if any(name.startswith(prefix) for name in names):
            raise UnsupportedFile(f"This is {kind}; {READABLE} can be read.")
    raise UnsupportedFile(f"This is a ZIP archive; {READABLE} can be read.")
