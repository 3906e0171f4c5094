"""Characters on a PDF page → lines with their place and type; running heads and page numbers are told apart."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pypdfium2 has no stubs.

import ctypes
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import msgspec
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

CELL_GAP_RATIO = 1.4
"""Of the type's height: a gap this wide separates columns. Justified text stretches spaces to about its height."""

BOLD_WEIGHT = 600  # CSS and PDF's /FontWeight: 400 regular, 700 bold. PDFium's own guess for pdfTeX fonts: 345 and 545
PLACE_TOLERANCE_PT = 4
MIN_RUNNING_PAGES = 3
MIN_RUNNING_RATIO = 0.3  # left and right pages carry different running heads, and chapters change them

_HYPHENS = ("\x02", "\ufffe")  # how PDFium marks the hyphen of a word divided at a line's end, by version
_DIAERESIS = re.compile("¨ ?([aouAOU])")
_UMLAUTS = {"a": "ä", "o": "ö", "u": "ü", "A": "Ä", "O": "Ö", "U": "Ü"}
_PAGE_NUMBER = re.compile(
    r"(?:(?:page|seite|s\.|p\.)\s*)?[-–—\s]*(?:\d{1,4}|[ivxlc]{1,7})[-–—\s]*(?:(?:/|of|von)\s*\d{1,4})?", re.IGNORECASE
)
_MARKER = re.compile(r"[^\w\s]|(?:\d{1,3}(?:\.\d{1,3})*|[a-zA-Z])[.)]?")
_DIGITS = re.compile(r"\d+")


class Line(msgspec.Struct, frozen=True):
    """One printed line. Lengths in points, y grows upwards. `size`: the font's ascent plus descent as placed.

    `cells`: the text cut at wide gaps, more than one in a table's row. `divided`: ends within a word.
    """

    page: int
    cells: tuple[str, ...]
    size: float
    bold: bool
    left: float
    right: float
    bottom: float
    divided: bool = False

    @property
    def text(self) -> str:
        return " ".join(self.cells)


def page_lines(text_page: pdfium.PdfTextPage, page: int) -> list[Line]:
    """The page's lines in its own content order."""
    count = text_page.count_chars()
    lines: list[Line] = []
    pen = _Pen(text_page, page)
    for index in range(count):
        char = chr(pdfium_c.FPDFText_GetUnicode(text_page, index))
        if char in "\r\n":
            lines += pen.end_line()
        elif char in _HYPHENS:
            lines += pen.end_line(divided=True)
        else:
            pen.put(index, char)
    lines += pen.end_line()
    return lines


class _Pen:
    """Collects one line's characters."""

    def __init__(self, text_page: pdfium.PdfTextPage, page: int) -> None:
        self._text_page = text_page
        self._page = page
        self._box = pdfium_c.FS_RECTF()
        self._clear()

    def _clear(self) -> None:
        self._cells: list[list[str]] = [[]]
        self._sizes: list[float] = []
        self._n_bold = 0
        self._left = self._right = self._bottom = 0.0

    def put(self, index: int, char: str) -> None:
        if char.isspace():
            self._cells[-1].append(" ")
            return
        # The loose box is the font's, not the glyph's: its height is the type size whatever the text matrix is.
        if not pdfium_c.FPDFText_GetLooseCharBox(self._text_page, index, ctypes.byref(self._box)):
            self._cells[-1].append(char)
            return
        box, size = self._box, self._box.top - self._box.bottom
        if not self._sizes:
            self._left, self._bottom = box.left, box.bottom
        elif box.left - self._right > CELL_GAP_RATIO * size and not self._is_behind_marker():
            self._cells.append([])
        self._cells[-1].append(char)
        self._sizes.append(size)
        self._right = box.right
        self._n_bold += pdfium_c.FPDFText_GetFontWeight(self._text_page, index) >= BOLD_WEIGHT

    def _is_behind_marker(self) -> bool:
        """A list's bullet or number begins the line: the gap behind it does not begin a cell."""
        return len(self._cells) == 1 and _MARKER.fullmatch("".join(self._cells[0]).strip()) is not None

    def end_line(self, *, divided: bool = False) -> Iterator[Line]:
        cells = tuple(text for cell in self._cells if (text := _spell("".join(cell))))
        if cells and self._sizes:
            size = sorted(self._sizes)[len(self._sizes) // 2]
            bold = self._n_bold == len(self._sizes)
            yield Line(self._page, cells, round(size, 1), bold, self._left, self._right, self._bottom, divided)
        self._clear()


def _spell(text: str) -> str:
    """Old TeX fonts print ¨ before the vowel it belongs to."""
    return " ".join(_DIAERESIS.sub(lambda match: _UMLAUTS[match[1]], text).split())


def without_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Drop what is printed at one place at the top or bottom of many pages, the page number in it disregarded."""
    seen: dict[tuple[str, float, int], set[int]] = defaultdict(set)
    edges = [_edges(lines) for lines in pages]
    for number, lines in enumerate(edges):
        for line in lines:
            seen[_key(line)].add(number)
    enough = max(MIN_RUNNING_PAGES, MIN_RUNNING_RATIO * len(pages))
    running = {key for key, numbers in seen.items() if len(numbers) >= enough}
    kept: list[list[Line]] = []
    for page, edge in zip(pages, edges, strict=True):
        dropped = {id(line) for line in edge if _key(line) in running or _is_page_number(line, len(pages))}
        kept.append([line for line in page if id(line) not in dropped])
    return kept


def _edges(lines: Sequence[Line]) -> list[Line]:
    """The two highest and two lowest lines of a page."""
    by_height = sorted(lines, key=lambda line: line.bottom)
    return by_height[:2] + by_height[max(len(by_height) - 2, 2) :]


def _key(line: Line) -> tuple[str, float, int]:
    return _DIGITS.sub("#", line.text), line.size, round(line.bottom / PLACE_TOLERANCE_PT)


def _is_page_number(line: Line, n_pages: int) -> bool:
    return n_pages > 1 and _PAGE_NUMBER.fullmatch(line.text) is not None


def most_common_size(lines: Sequence[Line]) -> float:
    """The size in which most characters are set: the body's."""
    weights: Counter[float] = Counter()
    for line in lines:
        weights[line.size] += len(line.text)
    return weights.most_common(1)[0][0] if weights else 0.0
