"""Answers a question with exact quotes from passages, or says that they hold none. No language model is asked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from app.grounding import Answer, Citation, Passage, RetrievalMode
from app.knowledge.answering.cite import citations_for
from app.knowledge.answering.compose import choose, compose
from app.knowledge.answering.language import NOT_FOUND, Language, detect
from app.knowledge.answering.prompt import UNSEARCHED, grounding_prompt
from app.knowledge.answering.scoring import (
    Lexical,
    Scored,
    by_words,
    cosine,
    embedded_text,
    lexical_scores,
    shortlist,
)
from app.knowledge.answering.statements import Statement, statements
from plugins.contract.errors import RetryableError

Embed = Callable[[Sequence[str], Literal["query", "passage"]], Awaitable[Sequence[Sequence[float]]]]
"""Unit vectors, one a text, in order."""


class Ranked(msgspec.Struct, frozen=True):
    """What `rank` found. `groups`: the statements of each passage, in the passages' order."""

    asked_in: Language
    groups: list[list[Statement]]
    scored: list[Scored]


class ExtractiveAnswerer:
    """Implements `app.grounding.Answerer`."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    async def answer(self, question: str, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> Answer:
        """One to three quotes, the best first. Costs one query and at most 16 short passages of embedding; of passages
        found by words, none: the embedder is away. Where it goes just now, words decide as well.
        """
        ranked = await self.rank(question, passages, mode)
        if not ranked.scored or ranked.scored[0].evidence < 0:
            return Answer(found=False, text=NOT_FOUND[ranked.asked_in], language=ranked.asked_in)
        return await asyncio.to_thread(_compose, ranked, passages)

    async def rank(self, question: str, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> Ranked:
        """The shortlisted statements, best first, whatever their evidence."""
        asked_in = detect(question)
        if mode != "vector":  # their scores are no cosines, and weigh nothing
            passages = [msgspec.structs.replace(passage, score=0.0) for passage in passages]
        groups, listed = await asyncio.to_thread(_prepare, question, asked_in, passages)
        if not listed:
            return Ranked(asked_in, groups, [])
        if mode != "vector":
            return Ranked(asked_in, groups, by_words(listed))
        texts = [embedded_text(lexical.statement) for lexical in listed]
        try:
            (query,), vectors = await asyncio.gather(self._embed([question], "query"), self._embed(texts, "passage"))
        except RetryableError:
            return Ranked(asked_in, groups, by_words(listed))
        scored = await asyncio.to_thread(_score, listed, query, vectors)
        return Ranked(asked_in, groups, scored)

    def instructions(self, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> str:
        return UNSEARCHED if mode == "none" else grounding_prompt(passages)

    def cite(self, text: str, passages: Sequence[Passage]) -> Sequence[Citation]:
        return citations_for(text, passages)


def _prepare(
    question: str, asked_in: Language, passages: Sequence[Passage]
) -> tuple[list[list[Statement]], list[Lexical]]:
    groups = [statements(number, passage) for number, passage in enumerate(passages)]
    return groups, shortlist(lexical_scores(question, asked_in, passages, groups))


def _score(listed: Sequence[Lexical], query: Sequence[float], vectors: Sequence[Sequence[float]]) -> list[Scored]:
    scored = [Scored(lexical, cosine(query, vector)) for lexical, vector in zip(listed, vectors, strict=True)]
    return sorted(scored, key=lambda one: -one.score)


def _compose(ranked: Ranked, passages: Sequence[Passage]) -> Answer:
    return compose(choose(ranked.scored, ranked.groups), passages, ranked.asked_in)
