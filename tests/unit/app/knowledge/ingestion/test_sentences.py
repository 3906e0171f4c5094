"""Sentences end where a reader would end them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.knowledge.ingestion.sentences import sentence_spans


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "sentence",
    [
        "Das gilt z. B. für Nr. 5, d. h. für alle.",
        "Am 3. Oktober ist Feiertag.",
        "Der 2. Weltkrieg endete.",
        "Siehe Abs. 3 und S. 12 im 1. Quartal.",
        "Dr. J. Weber wohnt in der Hauptstr. 5.",
        "Es kostet ca. 5 Mio. Euro zzgl. MwSt. und Versand.",
        "1. Drücken Sie den Knopf.",
        "See Fig. 3 and No. 5, e.g. by Mr. Smith.",
        "Version 2.5 costs $3.50 at example.com today.",
        "Wait … and see.",
    ],
)
def test_abbreviations_and_ordinals_do_not_end_a_sentence(sentence: str) -> None:
    """German and English, and whatever follows is a sentence of its own."""
    assert split(f"{sentence} Danach geht es weiter.") == [sentence, "Danach geht es weiter."]


def test_marks_quotes_and_lines_end_a_sentence() -> None:
    """Question and exclamation marks, closing quotes, deliberate line breaks, full-width marks."""
    assert split("Wirklich? Ja! „Gut.“ Es endete 1945. Dann\nneue Zeile。次") == [
        "Wirklich?",
        "Ja!",
        "„Gut.“",
        "Es endete 1945.",
        "Dann",
        "neue Zeile。",
        "次",
    ]


@given(st.text(alphabet="aB3. !?…\n„“)z。", max_size=200))
def test_spans_hold_everything_but_white_space(text: str) -> None:
    """In order, without overlap, trimmed, and nothing is lost."""
    position = 0
    for start, end in sentence_spans(text):
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip() != ""
        position = end
    assert not text[position:].strip()
