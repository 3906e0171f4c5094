"""What of a question is looked for in texts while there are no vectors: how the words that carry meaning begin."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from app.knowledge.answering.language import STOPWORDS, Language
from app.knowledge.answering.terms import stem

MAX_WORDS = 32
"""In one search: each is looked for in every passage."""

MIN_PART_CHARS = 4
"""What is shorter, or a number, counts as a whole word alone: `17` is not in `2017`, nor `rat` in `Vorrat`."""

_TOKEN = re.compile(r"[^\W_]+")
_LANGUAGES: tuple[Language, Language] = ("de", "en")


class Word(msgspec.Struct, frozen=True):
    """Lower case, letters and digits alone. `is_part`: found wherever it stands, `frist` in `kündigungsfristen`."""

    text: str
    is_part: bool


def words_of(questions: Sequence[str]) -> list[list[Word]]:
    """Of each question, the longest first: they say most. A question of function words alone has none."""
    n_each = max(MAX_WORDS // len(questions), 2) if questions else 0
    return [_words(question)[:n_each] for question in questions]


def _words(question: str) -> list[Word]:
    tokens = dict.fromkeys(token.lower() for token in _TOKEN.findall(question))
    found = (_word(token) for token in tokens if not any(token in STOPWORDS[language] for language in _LANGUAGES))
    return sorted(dict.fromkeys(found), key=lambda word: -len(word.text))


def _word(token: str) -> Word:
    """Cut where the shorter of both stems ends; the letters stay as they are written (stemmers change umlauts)."""
    if any(char.isdigit() for char in token) or len(token) < MIN_PART_CHARS:
        return Word(token, is_part=False)
    n_chars = max(min(len(stem(token, language)) for language in _LANGUAGES), MIN_PART_CHARS)
    return Word(token[:n_chars], is_part=True)
