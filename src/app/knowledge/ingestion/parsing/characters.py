"""Characters as they are stored: NFC, no control characters, no invisible ones, ligatures spelled out.

Postgres cannot store U+0000; invisible characters split words for search and can hide text from a human reader.
"""

import re
import unicodedata

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)  # U+FB00–FB06; NFC keeps them, searching for "Pflicht" would miss "Pﬂicht"
_LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # controls (Cc) but tab and line breaks
    "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width spaces, byte-order mark
    "\u061c\u200e\u200f\u202a-\u202e\u2061-\u206f"  # direction marks and other invisible format characters
    "\U000e0000-\U000e0fff"  # tags and variation selectors that can smuggle invisible text
    "\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]"  # lone surrogates and non-characters: not encodable
)
_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")
"""Where more than MAX_MARKS in a row can be: marks are no word characters."""

MAX_MARKS = 30
"""Combining marks on one letter: Unicode's stream-safe format (UAX #15, §13); scripts use four. Normalising sorts each
run of them by insertion: 4 MB of them in one run took more than two minutes."""

_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INNER_SPACE = re.compile(r"[ \t]+")


def clean(text: str) -> str:
    """Line breaks become line feeds, spaces of all widths U+0020; then NFC. Keeps tabs, lines and indentation."""
    text = _LINE_BREAKS.sub("\n", text)
    text = _SPACES.sub(" ", _REMOVED.sub("", text))
    return unicodedata.normalize("NFC", _MARKS.sub(_fewer_marks, text.translate(_LIGATURES)))


def clean_line(text: str) -> str:
    """One line: all white space runs become one space."""
    return " ".join(clean(text).split())


def clean_lines(text: str) -> str:
    """Lines kept, white space within and around them collapsed, empty ones dropped."""
    lines = (_INNER_SPACE.sub(" ", line).strip() for line in clean(text).split("\n"))
    return "\n".join(line for line in lines if line)


def _fewer_marks(run: re.Match[str]) -> str:
    kept: list[str] = []
    n_marks = 0
    for char in run[0]:
        n_marks = n_marks + 1 if unicodedata.combining(char) else 0
        if n_marks <= MAX_MARKS:
            kept.append(char)
    return "".join(kept)
