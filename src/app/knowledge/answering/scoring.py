"""How well does a statement answer a question? Weights and thresholds, fitted on measurements that stand here.

`tests/bench/answering.py` repeats the measurement.
"""

from collections.abc import Collection, Sequence
from operator import mul

import msgspec

from app.grounding import Passage
from app.knowledge.answering import quantities, terms
from app.knowledge.answering.language import Language, detect
from app.knowledge.answering.statements import Statement

MAX_EMBEDDED = 16  # statements a question: the embedder's 0.3 s on two idle threads

COSINE_WEIGHT, OWN_WEIGHT, AROUND_WEIGHT, PASSAGE_WEIGHT, QUANTITY_WEIGHT = 21.0, 3.0, 3.0, 35.0, 0.4
"""Of `score`, which orders statements: a listwise logistic regression on 397 questions of XQuAD (English), half of them
held out. The best statement holds the gold answer for 80 %, one of the best two for 91 %; for 98.5 % it is among the 16
that are embedded. By cosine alone 74 %, by coverage alone 77 %. (Cosines lie between 0.75 and 0.93: hence the size.)
"""

FOUND_COSINE, FOUND_AROUND, FOUND_BIAS = 50.0, 7.0, -46.0
"""Of `evidence`, whose zero is the threshold of "not found": a logistic regression on the best statements of questions
with and without their paragraph (53.6, 7.4, -49.4 on one third of XQuAD, 46.7, 6.5, -42.6 on one half; AUC .969, .960).

Measured end to end (`tests/bench/answering.py`, 120 questions, each also asked with its paragraph left out and its four
siblings from the same article kept, which is harder than a question about another matter):

    evidence at least   answered   quote holds the gold answer   "not found" recall   precision
                 -1.0       .967                          .900                 .800        .960
                 -0.5       .942                          .892                 .833        .935
                  0.0       .875                          .833                 .867        .874
                 +0.5       .867                          .825                 .908        .872
                 +1.0       .817                          .775                 .933        .836

0 is kept: the hand-written probes (`tests/unit/app/knowledge/answering`) have two wrong answers more at -0.5.
"""

FOREIGN_AROUND, FOREIGN_BIAS = 4.0, -40.1
"""The same where question and passage differ in language: cosines are lower by 0.05 and words seldom shared. Set by 22
hand probes between German and English: answerable ones have cosines of .803 to .858, others .754 to .826."""

WORDS_OWN, WORDS_AROUND, WORDS_BIAS = 4.2, 7.2, -6.4
"""Of `evidence` while there are no vectors: a logistic regression on the best statements by words of 199 questions of
XQuAD over 12 passages found by words, with and without their paragraph (AUC .933). At 0 it answers .85 of them, .67
with the gold answer in the very statement (.73 where all are answered), and says "not found" to .88 of the others."""

NO_QUANTITY, NO_PRICE = -1.0, -3.0
"""Off the evidence when a quantity is asked for and none is named (1.0 % of XQuAD's answerable questions, 2.4 % of the
others: log-odds -0.85), and when a price is asked for and there is no word of money (by reason, not by measurement)."""


class Lexical(msgspec.Struct, frozen=True):
    """What can be said of a statement without embedding it. Coverages are 0–1 of the question's weighted terms.

    `own`: by the statement itself. `around`: with its context and the statements before and after. `quantity`: 1 when
    one is asked for and named, -1 when asked for and not named, else 0. `no_price`: a price is asked for, and it does
    not speak of money. `passage`: cosine of its passage. `foreign`: in another language than the question.
    """

    statement: Statement
    terms: frozenset[str]
    own: float
    around: float
    quantity: int
    no_price: bool
    passage: float
    foreign: bool

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
        lexical = self.lexical
        around, bias = (FOREIGN_AROUND, FOREIGN_BIAS) if lexical.foreign else (FOUND_AROUND, FOUND_BIAS)
        lacking = NO_QUANTITY * (lexical.quantity < 0) + NO_PRICE * lexical.no_price
        return FOUND_COSINE * self.cosine + around * lexical.around + lacking + bias


class ScoredByWords(Scored, frozen=True):
    """The same without vectors: `cosine` is the share of the question's words."""

    @property
    def score(self) -> float:
        return self.lexical.score

    @property
    def evidence(self) -> float:
        lexical = self.lexical
        lacking = NO_QUANTITY * (lexical.quantity < 0) + NO_PRICE * lexical.no_price
        return WORDS_OWN * lexical.own + WORDS_AROUND * lexical.around + lacking + WORDS_BIAS


def by_words(listed: Collection[Lexical]) -> list[Scored]:
    """Best first."""
    return sorted((ScoredByWords(lexical, lexical.own) for lexical in listed), key=lambda one: -one.score)


def lexical_scores(
    question: str, language: Language, passages: Sequence[Passage], groups: Sequence[Sequence[Statement]]
) -> list[Lexical]:
    """One a statement, in order. `groups`: the statements of each passage."""
    wants_quantity, wants_price = quantities.is_asked_for(question), quantities.is_price_asked_for(question)
    own = [[frozenset(terms.terms(statement.text, language)) for statement in group] for group in groups]
    weights = terms.weights(terms.terms(question, language), [found for group in own for found in group])
    scores: list[Lexical] = []
    for passage, group, found in zip(passages, groups, own, strict=True):
        cosine = passage.score if 0 <= passage.score <= 1 else 0.0  # what is not a cosine says nothing comparable
        foreign = detect(passage.text) != language
        for at, statement in enumerate(group):
            around = frozenset[str]().union(*found[max(at - 1, 0) : at + 2], terms.terms(statement.context, language))
            scores.append(
                Lexical(
                    statement,
                    found[at],
                    own=terms.coverage(weights, found[at]),
                    around=terms.coverage(weights, around),
                    quantity=(1 if quantities.is_in(statement.text) else -1) if wants_quantity else 0,
                    no_price=wants_price and not quantities.is_price_in(statement.text),
                    passage=cosine,
                    foreign=foreign,
                )
            )
    return scores


def shortlist(scores: Collection[Lexical]) -> list[Lexical]:
    """Those worth embedding, best first."""
    quotable = (lexical for lexical in scores if _is_quotable(lexical.statement))
    return sorted(quotable, key=lambda lexical: -lexical.score)[:MAX_EMBEDDED]


def _is_quotable(statement: Statement) -> bool:
    """Code needs the sentence that introduces it, and a question answers none."""
    return statement.kind != "code" and not statement.text.endswith("?")


def embedded_text(statement: Statement) -> str:
    """What stands for a statement in the embedding: with its heading, without which an item or a row says little."""
    return f"{statement.context}\n{statement.text}" if statement.context else statement.text


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Of unit vectors."""
    return float(sum(map(mul, left, right)))
