"""How well does a statement answer a question? Weights and thresholds, fitted on measurements that stand here.

`tests/bench/answering.py` repeats the measurement.
"""

from collections.abc import Collection, Sequence
from operator import mul

import msgspec

from app.grounding import Passage
from app.knowledge.answering import quantities, terms
from app.knowledge.answering.language import Language
from app.knowledge.answering.statements import Statement

MAX_EMBEDDED = 24  # statements a question: 24 short texts take the embedder 0.35 s on two threads

COSINE_WEIGHT, OWN_WEIGHT, AROUND_WEIGHT, PASSAGE_WEIGHT, QUANTITY_WEIGHT = 21.0, 3.0, 3.0, 35.0, 0.4
"""Fitted."""

FOUND_COSINE, FOUND_AROUND, FOUND_BIAS = 52.0, 7.0, -47.5


class Lexical(msgspec.Struct, frozen=True):
    """What can be said of a statement without embedding it. Coverages are 0–1 of the question's weighted terms.

    `own`: by the statement itself. `around`: with its context and the statements before and after. `quantity`: 1 when
    one is asked for and named, -1 when asked for and not named, else 0. `passage`: cosine of its passage.
    """

    statement: Statement
    terms: frozenset[str]
    own: float
    around: float
    quantity: int
    passage: float

    @property
    def score(self) -> float:
        return (
            OWN_WEIGHT * self.own
            + AROUND_WEIGHT * self.around
            + PASSAGE_WEIGHT * self.passage
            + QUANTITY_WEIGHT * self.quantity
        )


class Scored(msgspec.Struct, frozen=True):
    """A statement with its cosine to the question (-1 to 1)."""

    lexical: Lexical
    cosine: float

    @property
    def statement(self) -> Statement:
        return self.lexical.statement

    @property
    def score(self) -> float:
        return self.lexical.score + COSINE_WEIGHT * self.cosine

    @property
    def evidence(self) -> float:
        """Log-odds that this answers the question rather than only being the closest text there is."""
        return FOUND_COSINE * self.cosine + FOUND_AROUND * self.lexical.around + FOUND_BIAS


def lexical_scores(
    question: str, language: Language, passages: Sequence[Passage], groups: Sequence[Sequence[Statement]]
) -> list[Lexical]:
    """One a statement, in order. `groups`: the statements of each passage."""
    wanted_quantity = quantities.is_asked_for(question)
    own = [[frozenset(terms.terms(statement.text, language)) for statement in group] for group in groups]
    weights = terms.weights(terms.terms(question, language), [found for group in own for found in group])
    scores: list[Lexical] = []
    for passage, group, found in zip(passages, groups, own, strict=True):
        cosine = passage.score if 0 <= passage.score <= 1 else 0.0  # what is not a cosine says nothing comparable
        for at, statement in enumerate(group):
            around = frozenset().union(*found[max(at - 1, 0) : at + 2], terms.terms(statement.context, language))
            quantity = (1 if quantities.is_in(statement.text) else -1) if wanted_quantity else 0
            scores.append(
                Lexical(
                    statement,
                    found[at],
                    terms.coverage(weights, found[at]),
                    terms.coverage(weights, around),
                    quantity,
                    cosine,
                )
            )
    return scores


def shortlist(scores: Collection[Lexical]) -> list[Lexical]:
    """Those worth embedding, best first."""
    return sorted(scores, key=lambda lexical: -lexical.score)[:MAX_EMBEDDED]


def embedded_text(statement: Statement) -> str:
    """What stands for a statement in the embedding: with its heading, without which an item or a row says little."""
    return f"{statement.context}\n{statement.text}" if statement.context else statement.text


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Of unit vectors."""
    return sum(map(mul, left, right))
