"""Citations on the wire: `annotations` of type `file_citation`, on the message or on the stream's finishing chunk.

OpenAI's own fields (`file_id`, `filename`, `index`) plus ours: `quote`, `start`, `end`, `score`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from app.grounding import Answer, Citation, Passage


class FileCitation(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="file_citation"):
    """`quote == stored_text[start:end]`; `index` is where its marker begins in the answer. All in code points."""

    file_id: str
    filename: str
    index: int
    quote: str
    start: int
    end: int
    score: float


def annotations_of(answer: Answer) -> list[FileCitation]:
    return on_the_wire(answer.citations)


def on_the_wire(citations: Iterable[Citation]) -> list[FileCitation]:
    return [
        FileCitation(
            file_id=c.file_id,
            filename=c.filename,
            index=c.index,
            quote=c.quote,
            start=c.start,
            end=c.end,
            score=round(c.score, 4),
        )
        for c in citations
    ]


def exact(citations: Iterable[Citation], passages: Sequence[Passage]) -> list[Citation]:
    """Those whose quote stands in a passage, letter by letter, where it says it does: the last gate before a user."""
    return [
        c
        for c in citations
        if any(
            p.file_id == c.file_id
            and p.start <= c.start
            and p.text[c.start - p.start : c.end - p.start] == c.quote != ""
            for p in passages
        )
    ]
