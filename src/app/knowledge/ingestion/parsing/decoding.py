"""Bytes of a text file → str. A guess is taken only where it is plausible; binary data is refused, never decoded.

Order: byte-order mark, declared encoding (HTML), strict UTF-8, UTF-8 with a few damaged bytes, Windows-1252.
"""

import codecs
import re

from app.knowledge.ingestion.errors import FileTooComplex, UnreadableFile, UnsupportedFile

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16 LE, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MAX_SOURCE_CHARS = 40_000_000
"""Twice the text that is kept at most: the other half is markup and white space. More would only be refused later."""

MAX_CONTROL_RATIO = 0.1
"""Valid UTF-8 with more control characters than this is binary. UTF-16 without a mark has half of them U+0000."""

MAX_DAMAGED_RATIO = 0.25
"""Broken per intact multi-byte sequence. A file cut within a character has one; Windows-1252 has nothing else."""

_NOT_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "utf-7", "undefined", "mbcs", "oem"}
"""Python's own, which no page is written in (WHATWG's standard has none of them): some take quadratic time."""

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # U+001B begins colours in terminal logs
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_TYPICAL_1252 = re.compile("[ÄÖÜäöüßÀÂÇÈÉÊËÎÏÔÙÛàâçèéêëîïôùûáíóúñÁÍÓÚÑåÅæÆøØ„“”‚‘’–—…•€§°²³µ«»©®×½¼·¡¿£ \u00a0]")


def decode(data: bytes, declared: str | None = None) -> str:
    """The text without its byte-order mark. `declared`: an encoding's name from within the file (HTML).

    Raises: UnsupportedFile for binary data or an encoding that cannot be told, UnreadableFile for a broken UTF-16,
    FileTooComplex.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            try:
                text = data[len(bom) :].decode(encoding)
            except UnicodeDecodeError as exc:
                if encoding != "utf-8":
                    raise UnreadableFile(f"The file says it is {encoding.upper()}, but it is damaged.") from exc
                text = _damaged_utf8(data[len(bom) :]) or ""
            return _text_only(text)
    try:
        return _text_only(data.decode("utf-8"))
    except UnicodeDecodeError:
        text = _declared(data, declared) or _damaged_utf8(data) or _windows_1252(data) or ""
    if not text:
        raise UnsupportedFile(
            "This is neither text in UTF-8, UTF-16 or Windows-1252 nor another kind that can be read."
        )
    return _text_only(text)


def _text_only(text: str) -> str:
    if len(text) > MAX_SOURCE_CHARS:
        raise FileTooComplex(f"The file holds more than {MAX_SOURCE_CHARS:,} characters.")
    if len(_CONTROLS.findall(text)) > MAX_CONTROL_RATIO * len(text):
        raise UnsupportedFile("This is binary data, not text.")
    return text


def _declared(data: bytes, declared: str | None) -> str | None:
    if declared is None:
        return None
    try:
        # WHATWG's encoding standard, §4.2: pages that say Latin-1 or ASCII mean Windows-1252.
        canonical = codecs.lookup(declared).name
        if canonical in _NOT_CHARSETS:
            return None
        return data.decode("cp1252" if canonical in ("iso8859-1", "ascii") else canonical)
    except (LookupError, UnicodeDecodeError):
        return None


def _damaged_utf8(data: bytes) -> str | None:
    text = data.decode("utf-8", errors="replace")
    intact = len(_UTF8_SEQUENCE.findall(data))
    return text if text.count("\ufffd") <= MAX_DAMAGED_RATIO * intact else None


def _windows_1252(data: bytes) -> str | None:
    """Only when nearly all characters beyond ASCII are those of Western European prose, and not most of the text."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:  # five bytes have no character in it: chance data of some length has one of them
        return None
    foreign = [char for char in text if char > "\x7f"]
    typical = len(_TYPICAL_1252.findall("".join(foreign)))
    if _CONTROLS.search(text) or len(foreign) > 0.5 * len(text) or typical < 0.9 * len(foreign):
        return None
    return text
