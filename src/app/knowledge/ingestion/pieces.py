"""A document's blocks → pieces: spans that chunks are packed from, and finer ones for blocks that are too long."""

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from app.knowledge.ingestion.model import CRUMB_SEPARATOR, Block, Document
from app.knowledge.ingestion.sentences import sentence_spans

MAX_CHARS_PER_TOKEN = 16
"""Text longer than this a token is taken as too long without counting: German averages 4, the longest words 10."""

MAX_CRUMB_RATIO = 1 / 3  # of a chunk's tokens may be its breadcrumb; what is embedded must mostly be the text

_NOT_SPACE = re.compile(r"\S")
_CUT_BEFORE = (re.compile(r"(?<=[;:,–—)])\s+(?=\S)"), re.compile(r"\s+(?=\S)"))  # clauses, then words


class Placed(msgspec.Struct, frozen=True):
    """A block and the headings it stands under, itself included where it is one."""

    block: Block
    path: tuple[str, ...]


class Piece(msgspec.Struct, frozen=True):
    """A span that is kept whole. `joined`: it must not be the last of a chunk (a heading, the lead of a list)."""

    start: int
    end: int
    tokens: int
    placed: Placed
    joined: bool = False


class Tokens:
    """Counts tokens net of what every text costs (markers, an instruction prefix), so that counts nearly add up."""

    def __init__(self, text: str, count: Callable[[str], int], max_tokens: int) -> None:
        self._text, self._count = text, count
        self.overhead = count("")
        self._max_chars = max_tokens * MAX_CHARS_PER_TOKEN

    def of(self, text: str) -> int:
        if len(text) > self._max_chars:
            return len(text)
        return max(self._count(text) - self.overhead, 1)

    def span(self, start: int, end: int) -> int:
        return self.of(self._text[start:end])


def placed_blocks(document: Document) -> Iterator[Placed]:
    """All blocks with their paths. Text outside any block becomes a paragraph: nothing is lost."""
    path: list[tuple[int, str]] = []
    position = 0
    for block in sorted(document.blocks, key=lambda block: block.start):
        start = max(block.start, position)
        for gap in _gap(document.text, position, start):
            yield Placed(gap, tuple(text for _, text in path))
        if block.kind == "heading":
            level = max(block.level, 1)
            path = [(outer, text) for outer, text in path if outer < level]
            path.append((level, document.text[block.start : block.end].replace("\n", " ")))
        for kept in _gap(document.text, start, block.end):
            yield Placed(
                msgspec.structs.replace(block, start=kept.start, end=kept.end), tuple(text for _, text in path)
            )
        position = max(position, block.end)
    for gap in _gap(document.text, position, len(document.text)):
        yield Placed(gap, tuple(text for _, text in path))


def _gap(text: str, start: int, end: int) -> Iterator[Block]:
    """What is not white space in `text[start:end]`, as a paragraph."""
    first = _NOT_SPACE.search(text, start, end)
    if first is not None:
        yield Block("paragraph", 0, first.start(), first.start() + len(text[first.start() : end].rstrip()))


def finer(text: str, piece: Piece, tokens: Tokens, budget: int) -> Iterator[Piece]:
    """Cut a piece into its lines (table, code) or sentences, and what is still too long anywhere."""
    if piece.placed.block.kind in ("table", "code"):
        spans = _line_spans(text, piece.start, piece.end)
    else:
        spans = sentence_spans(text, piece.start, piece.end)
    for start, end in spans:
        n_tokens = tokens.span(start, end)
        if n_tokens <= budget:
            yield Piece(start, end, n_tokens, piece.placed, piece.joined)
        else:
            yield from _hard_split(text, start, end, piece, tokens, budget)


def _line_spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in re.compile(r"\S(?:[^\n]*\S)?").finditer(text, start, end):
        yield match.span()


def _hard_split(text: str, start: int, end: int, piece: Piece, tokens: Tokens, budget: int) -> Iterator[Piece]:
    """Cut at clauses, else at words, else anywhere. Each step takes at least one character: it always ends."""
    chars_per_token = (end - start) / tokens.span(start, end)
    while start < end:
        size = max(int(budget * max(chars_per_token, 1.0)), 1)
        while True:
            cut = _cut(text, start, min(start + size, end), end)
            n_tokens = tokens.span(start, cut)
            if n_tokens <= budget or cut == start + 1:
                break
            size = max((cut - start) // 2, 1)
        stop = start + len(text[start:cut].rstrip())
        if stop > start:
            yield Piece(start, stop, n_tokens, piece.placed, piece.joined)
        following = _NOT_SPACE.search(text, cut, end)
        start = following.start() if following else end


def _cut(text: str, start: int, limit: int, end: int) -> int:
    """The last good place to cut in the second half of `text[start:limit]`, else `limit`."""
    if limit == end:
        return end
    middle = start + (limit - start) // 2
    for boundary in _CUT_BEFORE:
        places = [match.end() for match in boundary.finditer(text, middle, limit) if match.end() > start]
        if places:
            return places[-1]
    return limit


def breadcrumb(paths: Sequence[tuple[str, ...]], tokens: Tokens, max_tokens: int) -> str:
    """What all paths begin with, outer headings dropped and the last one cut until it fits."""
    if not paths:
        return ""
    shortest = min(paths, key=len)
    shared = next(
        (n for n, crumb in enumerate(shortest) if any(path[n] != crumb for path in paths)),
        len(shortest),
    )
    crumbs = list(shortest[:shared])
    allowed = int(max_tokens * MAX_CRUMB_RATIO)
    while len(crumbs) > 1 and tokens.of(CRUMB_SEPARATOR.join(crumbs)) > allowed:
        crumbs.pop(0)
    crumb = CRUMB_SEPARATOR.join(crumbs)
    while crumb and tokens.of(crumb) > allowed:
        crumb = crumb[: len(crumb) // 2].rstrip()
    return crumb
