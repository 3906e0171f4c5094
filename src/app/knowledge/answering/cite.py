"""Citations for answers that a language model wrote: its markers `[1]` become exact quotes of the passage they name."""

import re
from collections.abc import Iterator, Sequence

from app.grounding import Citation, Passage
from app.knowledge.answering import terms
from app.knowledge.answering.language import detect
from app.knowledge.answering.statements import Statement, statements
from app.knowledge.ingestion.sentences import sentence_spans

MAX_CLAIM_CHARS = 600  # looked at before a marker; a longer sentence says enough with its end

_MARKER = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\](?!\()|【(\d{1,3})】")
_CODE = re.compile(r"```[\s\S]*?(?:```|\Z)|`[^`\n]*`")


def citations_for(answer_text: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """One citation a marker, in order; `[1, 2]` gives two. Markers without a passage, or within code, are left alone.

    The quote is the statement of that passage that shares most with the sentence before the marker; `score` is the
    passage's own. Offsets as in `Citation`.
    """
    groups: dict[int, list[Statement]] = {}
    found: list[Citation] = []
    for index, number in _markers(answer_text):
        if not 1 <= number <= len(passages):
            continue
        passage = passages[number - 1]
        if number not in groups:
            groups[number] = statements(number, passage)
        start, end = _best(_claim(answer_text, index), passage, groups[number])
        found.append(
            Citation(
                number=number,
                index=index,
                file_id=passage.file_id,
                filename=passage.filename,
                quote=passage.text[start:end],
                start=passage.start + start,
                end=passage.start + end,
                score=passage.score,
            )
        )
    return tuple(found)


def _markers(text: str) -> Iterator[tuple[int, int]]:
    """Where each marker begins and the number it names."""
    code = [match.span() for match in _CODE.finditer(text)]
    for match in _MARKER.finditer(text):
        if any(start <= match.start() < end for start, end in code):
            continue
        for number in re.findall(r"\d+", match[0]):
            yield match.start(), int(number)


def _claim(text: str, index: int) -> str:
    """The sentence that the marker at `index` stands in or behind, other markers left out."""
    before = _MARKER.sub(" ", text[max(index - MAX_CLAIM_CHARS, 0) : index]).rstrip()
    spans = list(sentence_spans(before))
    return before[spans[-1][0] : spans[-1][1]] if spans else ""


def _best(claim: str, passage: Passage, group: Sequence[Statement]) -> tuple[int, int]:
    """The span of the statement nearest to the claim in words; the first one when they share none."""
    if not group:
        stripped = passage.text.strip()
        start = passage.text.find(stripped)
        return start, start + len(stripped)
    spoken = detect(passage.text)
    own = [frozenset(terms.terms(statement.text, spoken)) for statement in group]
    weights = terms.weights(terms.terms(claim, spoken), own)
    # What a statement says beyond the claim counts against it a little: of two that cover it, the closer one is meant.
    fits = [terms.coverage(weights, found) - 0.01 * len(found - weights.keys()) for found in own]
    best = group[fits.index(max(fits))] if weights and max(fits) > 0 else group[0]
    return best.start, best.end
