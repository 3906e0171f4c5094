"""Answers a question with exact quotes from passages, or says that they hold none. No language model is asked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from app.grounding import Answer, Citation, Passage
from app.knowledge.answering import cite, compose, language, scoring
from app.knowledge.answering.language import Language
from app.knowledge.answering.scoring import Lexical, Scored
from app.knowledge.answering.statements import Statement, statements

Embed = Callable[[Sequence[str], Literal["query", "passage"]], Awaitable[Sequence[Sequence[float]]]]
"""Unit vectors, one a text, in order."""


class ExtractiveAnswerer:
    """Implements `app.grounding.Answerer`."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    async def answer(self, question: str, passages: Sequence[Passage]) -> Answer:
        """One to three quotes, the best first. Costs one query and at most 24 short passages of embedding.

        Raises: what `embed` raises.
        """
        asked_in = language.detect(question)
        groups, listed = await asyncio.to_thread(_prepare, question, asked_in, passages)
        if not listed:
            return _not_found(asked_in)
        texts = [scoring.embedded_text(lexical.statement) for lexical in listed]
        (query,), vectors = await asyncio.gather(self._embed([question], "query"), self._embed(texts, "passage"))
        return await asyncio.to_thread(_decide, asked_in, passages, groups, listed, query, vectors)

    def instructions(self, passages: Sequence[Passage]) -> str:
        return cite.grounding_prompt(passages)

    def cite(self, text: str, passages: Sequence[Passage]) -> Sequence[Citation]:
        return cite.citations_for(text, passages)


def _not_found(asked_in: Language) -> Answer:
    return Answer(found=False, text=language.NOT_FOUND[asked_in], language=asked_in)


def _prepare(
    question: str, asked_in: Language, passages: Sequence[Passage]
) -> tuple[list[list[Statement]], list[Lexical]]:
    groups = [statements(number, passage) for number, passage in enumerate(passages)]
    return groups, scoring.shortlist(scoring.lexical_scores(question, asked_in, passages, groups))


def _decide(
    asked_in: Language,
    passages: Sequence[Passage],
    groups: Sequence[Sequence[Statement]],
    listed: Sequence[Lexical],
    query: Sequence[float],
    vectors: Sequence[Sequence[float]],
) -> Answer:
    scored = [Scored(lexical, scoring.cosine(query, vector)) for lexical, vector in zip(listed, vectors, strict=True)]
    scored.sort(key=lambda one: -one.score)
    if scored[0].evidence < 0:
        return _not_found(asked_in)
    return compose.compose(compose.choose(scored, groups), passages, asked_in)
