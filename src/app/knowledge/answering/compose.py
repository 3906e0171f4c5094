"""Chosen statements → an answer of exact quotes with markers, and the citations behind them."""

import re
from collections.abc import Sequence

import msgspec

from app.grounding import Answer, Citation, Passage
from app.knowledge.answering.language import Language
from app.knowledge.answering.scoring import Scored
from app.knowledge.answering.statements import Statement

MAX_SENTENCES = 3
MAX_QUOTES = 3
MAX_LIST_CHARS = 900  # a list is quoted whole up to this: about twelve lines on a screen
SHORT_CHARS = 40  # "Nein." or "Yes, through the VPN." wants the next sentence
NEXT_MARGIN = 1.5  # log-odds below the best: the next sentence of the block is quoted with it
OTHER_MARGIN = 1.0  # the same for one elsewhere, which costs the reader more. Both by reading some 80 answers
MAX_OVERLAP = 0.6  # of two quotes' words (Jaccard): above, the second only repeats the first

_REFERS_BACK = re.compile(
    r"(?:er|sie|es|dies(?:e[rsnm]?)?|jene[rsnm]?|dabei|dazu|dafür|dadurch|damit|danach|davon|dort|dann|deshalb|daher"
    r"|außerdem|zusätzlich|ebenso|ihre?[rnms]?|seine?[rnms]?"
    r"|it|its|he|she|they|their|his|her|this|these|those|that|then|there|therefore|however|otherwise|also|such)\b",
    re.IGNORECASE,
)


class Quote(msgspec.Struct, frozen=True):
    """`start`, `end`: in the passage's text. `score`: cosine of the statement it was chosen for."""

    number: int
    start: int
    end: int
    score: float


def choose(scored: Sequence[Scored], groups: Sequence[Sequence[Statement]]) -> list[Quote]:
    """One to three quotes, best first. `scored`: best first, not empty."""
    by_place = {(s.statement.number, s.statement.order): s for s in scored}
    best = scored[0]
    quotes = _expand(best, groups, by_place)
    covered = best.lexical
    for other in scored[1:]:
        if len(quotes) >= MAX_QUOTES or other.score < best.score - OTHER_MARGIN:
            break
        if other.evidence < 0 or any(_holds(quote, other.statement) for quote in quotes):
            continue
        union = covered.terms | other.lexical.terms
        overlap = len(covered.terms & other.lexical.terms) / max(len(union), 1)
        if overlap <= MAX_OVERLAP and other.lexical.own > 0:
            quotes += _expand(other, groups, by_place)[: MAX_QUOTES - len(quotes)]
    return quotes


def _holds(quote: Quote, statement: Statement) -> bool:
    return quote.number == statement.number and quote.start < statement.end and statement.start < quote.end


def _expand(
    chosen: Scored, groups: Sequence[Sequence[Statement]], by_place: dict[tuple[int, int], Scored]
) -> list[Quote]:
    """The chosen statement with what it needs beside it: its list, its table's header, the sentence it refers to."""
    statement = chosen.statement
    group = groups[statement.number]
    if statement.kind == "row" and statement.lead is not None:
        header = Quote(statement.number, *statement.lead, chosen.cosine)
        return [header, _quote(chosen, statement, statement)]
    if statement.kind == "sentence":
        following = group[statement.order + 1 :]
        led = [
            s for s in following if s.lead is not None and s.lead[0] >= statement.start and s.lead[1] == statement.end
        ]
        if led:
            whole = [s for s in led if s.end - statement.start <= MAX_LIST_CHARS]
            return [_quote(chosen, statement, whole[-1] if whole else statement)]
        return [_quote(chosen, *_run(chosen, group, by_place))]
    return [_quote(chosen, statement, statement)]


def _run(
    chosen: Scored, group: Sequence[Statement], by_place: dict[tuple[int, int], Scored]
) -> tuple[Statement, Statement]:
    """Consecutive sentences of one block: back to what the chosen one refers to, on while they belong to it."""
    first = last = chosen.statement
    if first.context.endswith("?"):  # its heading asks: the answer is what stands below, from its beginning
        first = next(s for s in group if s.block == first.block)
        last = group[max(last.order, min(first.order + MAX_SENTENCES - 1, _last_of_block(group, first)))]
    while first.order > 0 and last.order - first.order + 1 < MAX_SENTENCES and _REFERS_BACK.match(first.text):
        before = group[first.order - 1]
        if before.block != first.block or before.kind != "sentence":
            break
        first = before
    while last.order + 1 < len(group) and last.order - first.order + 1 < MAX_SENTENCES:
        following = group[last.order + 1]
        if following.block != last.block or following.kind != "sentence":
            break
        scored = by_place.get((following.number, following.order))
        close = scored is not None and scored.score >= chosen.score - NEXT_MARGIN
        if not close and last.end - first.start > SHORT_CHARS:
            break
        last = following
    return first, last


def _last_of_block(group: Sequence[Statement], statement: Statement) -> int:
    return max(s.order for s in group if s.block == statement.block)


def _quote(chosen: Scored, first: Statement, last: Statement) -> Quote:
    return Quote(first.number, first.start, last.end, chosen.cosine)


def compose(quotes: Sequence[Quote], passages: Sequence[Passage], language: Language) -> Answer:
    """Quotes in the order given; lists, rows and what follows them on lines of their own."""
    text = ""
    citations: list[Citation] = []
    for number, quote in enumerate(quotes, start=1):
        passage = passages[quote.number]
        quoted = passage.text[quote.start : quote.end]
        if text:
            text += "\n" if "\n" in quoted or " | " in quoted or "\n" in text else " "
        text += quoted + " "
        citations.append(
            Citation(
                number=number,
                index=len(text),
                file_id=passage.file_id,
                filename=passage.filename,
                quote=quoted,
                start=passage.start + quote.start,
                end=passage.start + quote.end,
                score=round(quote.score, 4),
            )
        )
        text += f"[{number}]"
    return Answer(found=True, text=text, citations=tuple(citations), language=language)
