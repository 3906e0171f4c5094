"""Documents that mean harm, made here in moments: small on the wire, large or endless where they are read."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

import msgspec
from fpdf import FPDF

from documents import samples

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]>"
)
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents 4 0 R/Resources<</Font<</F1 3 0 R>>%s>>>>"
HELLO = b"BT /F1 12 Tf 20 100 Td (hello) Tj ET "


class Hostile(msgspec.Struct, frozen=True):
    """`reason`: what `last_error` must say; None: it is read. `text`: what the stored text then begins with."""

    filename: str
    data: Callable[[], bytes]
    reason: str | None
    text: str = ""


def zipped(parts: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return out.getvalue()


def word(**replaced: bytes | str) -> bytes:
    """A sound DOCX with some of its parts put in or replaced."""
    with zipfile.ZipFile(io.BytesIO(samples.word())) as archive:
        parts: dict[str, bytes | str] = {name: archive.read(name) for name in archive.namelist()}
    return zipped({**parts, **replaced})


def word_of(inner: str, *, doctype: str = "") -> bytes:
    """A DOCX with this body."""
    document = f'<?xml version="1.0"?>{doctype}<w:document {W}><w:body>{inner}</w:body></w:document>'
    return word(**{"word/document.xml": document})


def text_run(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def overlapping_zip() -> bytes:
    """Forty names for one compressed part of 10 MB: 400 MB that were never written (after D. Fifield's zip bomb)."""
    data = bytearray(word(**{"word/media/000.bin": bytes(10_000_000)}))
    end = data.rindex(b"PK\x05\x06")
    n_parts, _, start = struct.unpack_from("<HII", data, end + 10)
    entry = data.index(b"word/media/000.bin", start) - 46
    record = bytes(data[entry : entry + 46 + len("word/media/000.bin")])
    copies = b"".join(record.replace(b"000.bin", b"%03d.bin" % n) for n in range(1, 40))
    size = end - start + len(copies)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, n_parts + 39, n_parts + 39, size, start, 0)
    return bytes(data[:end]) + copies + tail


def lying_zip() -> bytes:
    """The directory says that the main part is 1,000 bytes; 50 MB come out."""
    data = bytearray(word(**{"word/document.xml": bytes(50_000_000)}))
    entry = data.rindex(b"word/document.xml") - 46
    struct.pack_into("<I", data, entry + 24, 1000)
    return bytes(data)


def locked_zip() -> bytes:
    """The main part is marked as encrypted."""
    data = bytearray(samples.word())
    entry = data.rindex(b"word/document.xml") - 46
    data[entry + 8] |= 1
    return bytes(data)


def pdf(objects: Sequence[bytes]) -> bytes:
    """Objects are numbered from 1; the first is the catalogue."""
    out, places = [b"%PDF-1.4\n"], []
    length = len(out[0])
    for number, body in enumerate(objects, start=1):
        places.append(length)
        out.append(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        length += len(out[-1])
    size = len(objects) + 1
    out.append(b"xref\n0 %d\n0000000000 65535 f \n" % size)
    out += [b"%010d 00000 n \n" % place for place in places]
    out.append(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, length))
    return b"".join(out)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<</Length %d%s>>stream\n%s\nendstream" % (len(data), entries, data)


def page(content: bytes, resources: bytes = b"", more: Sequence[bytes] = ()) -> bytes:
    """One page; `more` are numbered from 6 on."""
    return pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[5 0 R]/Count 1>>",
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
            content,
            PAGE % resources,
            *more,
        ]
    )


def pages(n_pages: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % number for number in range(5, 5 + n_pages))
    return pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, n_pages),
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
            stream(HELLO),
            *[PAGE % b""] * n_pages,
        ]
    )


def owner_locked_pdf() -> bytes:
    """Opens without a password; only changing it needs one."""
    paper = FPDF()
    paper.add_page()
    paper.set_font("Helvetica", size=11)
    paper.cell(0, 6, "Offen lesbar")
    paper.set_encryption(owner_password="besitz")
    return bytes(paper.output())


def _form(name_of_next: bytes, n_times: int) -> bytes:
    entries = (
        b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %s>>/Font<</F1 3 0 R>>>>" % name_of_next
    )
    return stream(b"/X Do " * n_times + HELLO, entries)


def _image() -> bytes:
    entries = b"/Type/XObject/Subtype/Image/Width 100000/Height 100000/BitsPerComponent 8/ColorSpace/DeviceRGB"
    return stream(zlib.compress(bytes(1_000_000)), entries + b"/Filter/FlateDecode")


def _deflated_twice(n_bytes: int) -> bytes:
    packer = zlib.compressobj(9)
    once = b"".join(packer.compress(bytes(10_000_000)) for _ in range(n_bytes // 10_000_000)) + packer.flush()
    return stream(zlib.compress(once, 9), b"/Filter[/FlateDecode/FlateDecode]")


def _noise(n_bytes: int) -> bytes:
    return random.Random(3).randbytes(n_bytes)


PDFS = {
    "password": Hostile("a.pdf", samples.encrypted_pdf, "encrypted_file"),
    "owner's password": Hostile("a.pdf", owner_locked_pdf, None, "Offen lesbar"),
    "10,000 pages": Hostile("a.pdf", lambda: pages(10_000), "too_many_pages"),
    "pages that are each other's": Hostile(
        "a.pdf",
        lambda: pdf([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 4000>>"]),
        "unreadable_file",
    ),
    "two billion pages that are not there": Hostile(
        "a.pdf", lambda: page(stream(HELLO)).replace(b"/Count 1>>", b"/Count 2000000000>>"), None, "hello"
    ),
    "length that is its own": Hostile(
        "a.pdf", lambda: page(b"<</Length 4 0 R>>stream\n" + HELLO + b"\nendstream"), None, "hello"
    ),
    "form that draws itself": Hostile(
        "a.pdf", lambda: page(stream(b"/X Do "), b"/XObject<</X 6 0 R>>", [_form(b"6 0 R", 2)]), "parse_crashed"
    ),
    "forms that multiply": Hostile(
        "a.pdf",
        lambda: page(stream(b"/X Do "), b"/XObject<</X 6 0 R>>", [_form(b"%d 0 R" % (7 + n), 10) for n in range(11)]),
        "parse_crashed",
    ),
    "600 MB in 2 kB": Hostile("a.pdf", lambda: page(_deflated_twice(600_000_000)), "parse_crashed"),
    "image of 30 GB": Hostile(
        "a.pdf", lambda: page(stream(b"/I Do " + HELLO), b"/XObject<</I 6 0 R>>", [_image()]), None, "hello"
    ),
    "a million objects": Hostile("a.pdf", lambda: page(stream(HELLO), b"", [b"null"] * 1_000_000), None, "hello"),
    "deep arrays": Hostile("a.pdf", lambda: page(stream(HELLO), b"/X " + b"[" * 500_000), None, "hello"),
    "cut short": Hostile("a.pdf", lambda: samples.pdf()[:1500], "unreadable_file"),
    "noise behind the header": Hostile("a.pdf", lambda: b"%PDF-1.7\n" + _noise(100_000), "unreadable_file"),
}

WORDS = {
    "one text of 60 MB": Hostile("a.docx", lambda: word_of(text_run("A" * 60_000_000)), "file_too_complex"),
    "nine million paragraphs": Hostile("a.docx", lambda: word_of("<w:p/>" * 9_000_000), "file_too_complex"),
    "deep": Hostile("a.docx", lambda: word_of("<w:sdt>" * 50_000), "file_too_complex"),
    "20,000 parts": Hostile(
        "a.docx", lambda: word(**{f"word/media/{n}.bin": b"" for n in range(20_000)}), "file_too_complex"
    ),
    "picture of 270 MB": Hostile(
        "a.docx", lambda: word(**{"word/media/a.png": bytes(270_000_000)}), "file_too_complex"
    ),
    "parts on top of each other": Hostile("a.docx", overlapping_zip, "file_too_complex"),
    "part larger than it says": Hostile("a.docx", lying_zip, "unreadable_file"),
    "bomb within": Hostile(
        "a.docx",
        lambda: word(**{"word/embeddings/a.zip": zipped({"b": zipped({"c": bytes(50_000_000)})})}),
        None,
        "Dienstanweisung",
    ),
    "billion laughs": Hostile("a.docx", lambda: word_of(text_run("&a9;"), doctype=LAUGHS), "file_too_complex"),
    "billion laughs in an attribute": Hostile(
        "a.docx", lambda: word_of('<w:p w:x="&a9;"/>' + text_run("x"), doctype=LAUGHS), "file_too_complex"
    ),
    "file of the server": Hostile(
        "a.docx",
        lambda: word_of(text_run("x&e;y"), doctype='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
        "unreadable_file",
    ),
    "address of the server's net": Hostile(
        "a.docx",
        lambda: word_of(text_run("x"), doctype='<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">'),
        "unreadable_file",
    ),
    "password in the zip": Hostile("a.docx", locked_zip, "encrypted_file"),
    "password, as Word does it": Hostile(
        "a.docx", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), "unsupported_file"
    ),
}

TEXTS = {
    "noise as text": Hostile("a.txt", lambda: _noise(100_000), "unsupported_file"),
    "program as text": Hostile("a.txt", lambda: b"\x7fELF\x02\x01\x01" + bytes(1000), "unsupported_file"),
    "text as PDF": Hostile("a.pdf", lambda: b"just words", "unreadable_file"),
    "DOCX as Markdown": Hostile("a.md", samples.word, None, "Dienstanweisung"),
    "white space": Hostile("a.txt", lambda: b" \r\n\t\f" * 1000, "empty_file"),
    "zero-width characters": Hostile("a.txt", lambda: "\u200b\u2060\ufeff".encode() * 100, "no_text_found"),
    "50 MB in one line": Hostile("a.txt", lambda: b"word " * 10_000_000, "file_too_complex"),
    "60,000 chapters": Hostile("a.html", lambda: b"<html>" + b"<h1>a</h1><p>b</p>" * 60_000, "too_many_passages"),
    "100,000 nested tags": Hostile("a.html", lambda: b"<html>" + b"<div>" * 100_000 + b"x", "file_too_complex"),
    "a million attributes": Hostile(
        "a.html", lambda: b"<html><p " + b" ".join(b"a%d" % n for n in range(1_000_000)) + b">x", "parse_timeout"
    ),
    "five million tags": Hostile("a.html", lambda: b"<html>" + b"<p>a" * 5_000_000, "parse_out_of_memory"),
    "open brackets": Hostile("a.md", lambda: b"[" * 1_000_000, "file_too_complex"),
    "quotes in quotes": Hostile("a.md", lambda: b">" * 100_000 + b"x", "file_too_complex"),
    "stars": Hostile("a.md", lambda: b"*" * 1_000_000, "no_text_found"),
    "a megabyte of backticks": Hostile("a.md", lambda: b"`" * 1_000_000, "no_text_found"),
    "marks on one letter": Hostile("a.txt", lambda: ("a" + "\u0301\u0316" * 1_000_000).encode(), None, "\u00e1\u0316"),
    "UTF-16": Hostile("a.txt", lambda: "Grüße aus Köln".encode("utf-16"), None, "Grüße aus Köln"),
    "half a UTF-16 character": Hostile("a.txt", lambda: "Grüße".encode("utf-16") + b"x", "unreadable_file"),
    "half a pair": Hostile("a.txt", lambda: b"\xff\xfe\x00\xd8a\x00", "unreadable_file"),
    "UTF-7": Hostile("a.html", lambda: b'<html><meta charset="utf-7"><p>+ADw-b+AD4-', None, "+ADw-b+AD4-"),
    "two encodings": Hostile("a.txt", lambda: "Grüße ".encode() * 3 + "Käse".encode("latin-1"), None, "Grüße Grüße"),
    "Latin-1": Hostile("a.txt", lambda: "Käse und Brötchen für alle".encode("latin-1"), None, "Käse und Brötchen"),
    "a thousand byte-order marks": Hostile("a.txt", lambda: b"\xef\xbb\xbf" * 1000 + b"x", None, "x"),
    "hidden characters": Hostile(
        "a.txt", lambda: "pass\u200bwo\u00adrd\u202e u\u0308ber".encode(), None, "password über"
    ),
    "NUL": Hostile("a.txt", lambda: b"before\x00after it all comes more text", None, "beforeafter"),
    "formulas": Hostile("a.csv", lambda: b'name,sum\n=cmd|"/c calc"!A1,1\n', None, "name,sum"),
}

ALL = {**PDFS, **WORDS, **TEXTS}
