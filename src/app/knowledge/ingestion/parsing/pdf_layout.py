"""Lines of a PDF → paragraphs, list items, tables and headings, by gaps, indents, type size and weight."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from app.knowledge.ingestion.parsing.builder import DocumentBuilder
from app.knowledge.ingestion.parsing.pdf_lines import Line, most_common_size, without_running_lines

HEADING_SIZE_RATIO = 1.12  # 11 pt text under 12.5 pt headings, about the smallest step that typesetters use
MAX_HEADING_CHARS = 150
PARAGRAPH_GAP_RATIO = 1.3  # of the usual distance between baselines; paragraphs are set half a line or more apart
ROW_GAP_RATIO = 2.5  # the same between a table's rows, whose cells are padded
INDENT_EM = 0.8
COLUMN_INDENT_EM = 3  # lines that begin this close to each other stand in one column, list items included
SLACK_RATIO = 0.08  # of the column's width: lines set ragged keep less than this free beyond the word that did not fit
SAME_SIZE_RATIO = 0.07  # rounding and small capitals

_MARKER = re.compile(r"(?:[•◦▪‣·–—-]|(\d{1,3})[.)]|[a-z]\))\s+(?=\S)")
_SENTENCE_END = re.compile(r"[.!?:;…][\"'”“»)\]]*$")
_LAST_WORD = re.compile(r"[\w-]+$")
_FIRST_WORD = re.compile(r"\w+")
_WORD = re.compile(r"\w[\w-]*")
_DOT_LEADER = re.compile(r"(?:\. ?){4,}\W*(?:\d+|[ivxlc]+)?$")  # a line of a table of contents: repeats a heading
_SUSPENDED = {"und", "oder", "bzw", "sowie", "bis", "als", "and", "or", "to", "nor"}  # "Ein- und Ausgabe"


def add_blocks(builder: DocumentBuilder, pages: Sequence[Sequence[Line]]) -> None:
    """Write all pages into `builder`. A paragraph that runs over a page break stays one block, on its first page."""
    pages = without_running_lines(pages)
    lines = [line for page in pages for line in page if not _DOT_LEADER.search(line.text)]
    layout = _Layout(lines)
    group: list[Line] = []
    for line in lines:
        if group and layout.begins_block(group, line):
            layout.write(builder, group)
            group = []
        group.append(line)
    if group:
        layout.write(builder, group)


class _Layout:
    """What is usual in this document, against which a line is judged."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._body = most_common_size(lines)
        body = [line for line in lines if self._is_body(line)]
        self._bold_body = bool(body) and sum(line.bold for line in body) > len(body) / 2
        steps = Counter(
            round(upper.bottom - lower.bottom)
            for upper, lower in pairwise(body)
            if upper.page == lower.page and upper.bottom > lower.bottom
        )
        self._leading = steps.most_common(1)[0][0] if steps else self._body * 1.2
        self._columns: dict[tuple[int, int], tuple[float, float]] = {}
        for line in body:
            for key in self._column_keys(line):
                left, right = self._columns.get(key, (line.left, line.right))
                self._columns[key] = min(left, line.left), max(right, line.right)
        sizes = {line.size for line in lines if line.size >= HEADING_SIZE_RATIO * self._body}
        self._heading_sizes = sorted(sizes, reverse=True)
        self._words = {word.lower() for line in lines for word in _WORD.findall(line.text)}

    def _is_body(self, line: Line) -> bool:
        return abs(line.size - self._body) <= SAME_SIZE_RATIO * self._body

    def _column_keys(self, line: Line) -> tuple[tuple[int, int], ...]:
        """A line counts for its own strip of the page and the two beside it."""
        strip = int(line.left / (COLUMN_INDENT_EM * self._body))
        return (line.page, strip), (line.page, strip - 1), (line.page, strip + 1)

    def _has_room(self, line: Line, following: Line) -> bool:
        """Would the next line's first word have fitted? Then the line was ended on purpose."""
        left, right = self._columns.get(self._column_keys(line)[0], (line.left, line.right))
        first_word = following.text.split(" ", 1)[0]
        char_width = (line.right - line.left) / len(line.text)
        return right - line.right > (len(first_word) + 1) * char_width + SLACK_RATIO * (right - left)

    def begins_block(self, group: Sequence[Line], line: Line) -> bool:
        """Does `line` begin something new after `group`?"""
        last, first = group[-1], group[0]
        if last.divided:
            return False
        if _MARKER.match(line.text) or abs(line.size - last.size) > SAME_SIZE_RATIO * max(line.size, last.size):
            return True
        if len(line.cells) > 1 and len(last.cells) > 1:
            return line.page != last.page or not 0 < last.bottom - line.bottom <= ROW_GAP_RATIO * self._leading
        if len(line.cells) > 1 or len(last.cells) > 1 or (line.bold != last.bold and (first.bold or line.bold)):
            return True
        ended = _SENTENCE_END.search(last.text) is not None
        if line.page != last.page or line.bottom > last.bottom:  # next page or column
            return ended or last.size > HEADING_SIZE_RATIO * self._body
        leading = self._leading * max(line.size / self._body, 1.0)
        if last.bottom - line.bottom > PARAGRAPH_GAP_RATIO * leading:
            return True
        short = self._has_room(last, line)
        hanging = _MARKER.match(first.text) is not None
        indented = line.left > last.left + INDENT_EM * line.size and not hanging
        outdented = hanging and len(group) > 1 and line.left < last.left - INDENT_EM * line.size
        return outdented or (ended and (short or indented))

    def write(self, builder: DocumentBuilder, group: Sequence[Line]) -> None:
        first = group[0]
        if len(first.cells) > 1 and len(group) > 1:
            builder.table([line.cells for line in group], first.page)
            return
        text = self._join(group)
        marker = _MARKER.match(text)
        if level := self._heading_level(group, text):
            builder.heading(text, level, first.page)
        elif marker:
            builder.list_item(text[marker.end() :], number=int(marker[1]) if marker[1] else None, page=first.page)
        else:
            builder.paragraph(text, first.page)

    def _heading_level(self, group: Sequence[Line], text: str) -> int:
        """0: none. Bigger sizes first; bold lines in the body's size come below all of them, never above level 2."""
        if len(text) > MAX_HEADING_CHARS or len(group[0].cells) > 1:
            return 0
        if group[0].size in self._heading_sizes:
            return 1 + self._heading_sizes.index(group[0].size)
        bold = group[0].bold and not self._bold_body and self._is_body(group[0])
        if bold and len(group) <= 2 and not _SENTENCE_END.search(text):
            return max(2, 1 + len(self._heading_sizes))
        return 0

    def _join(self, group: Sequence[Line]) -> str:
        text = ""
        divided = False
        for last, line in zip([group[0], *group], group, strict=False):
            if not text:
                text = line.text
            elif divided:
                text = self._join_word(text, line.text)
            elif self._has_room(last, line) and not line.text[0].islower() and last.page == line.page:
                text += "\n" + line.text
            else:
                text += " " + line.text
            divided = line.divided or (text.endswith("-") and text[-2:-1].isalpha())
            if divided:
                text = text.removesuffix("-")
        return text + ("-" if divided else "")

    def _join_word(self, text: str, following: str) -> str:
        """Put a word divided at a line's end together again, with its hyphen only where it is the word's own."""
        tail = _LAST_WORD.search(text)
        head = _FIRST_WORD.match(following)
        if tail is None or head is None:
            return f"{text}-{following}"
        if head[0].lower() in _SUSPENDED:
            return f"{text}- {following}"
        joined, hyphened = (tail[0] + head[0]).lower(), f"{tail[0]}-{head[0]}".lower()
        own = not following[0].islower() or "-" in tail[0] or not tail[0][-1].isalpha()
        if own or (hyphened in self._words and joined not in self._words):
            return f"{text}-{following}"
        return text + following
