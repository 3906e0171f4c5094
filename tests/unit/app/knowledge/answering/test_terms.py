"""Words are compared by stem, compounds in part, and a question's language is told."""

import pytest

from app.knowledge.answering.language import detect
from app.knowledge.answering.quantities import is_asked_for, is_in, is_price_asked_for, is_price_in
from app.knowledge.answering.terms import coverage, terms, weights


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wie lange werden Sicherungen aufbewahrt?", "de"),
        ("Größe?", "de"),
        ("Was kostet WattOS?", "de"),
        ("How long are backups kept?", "en"),
        ("WattOS?", "en"),
        ("", "en"),
    ],
)
def test_language_is_told_from_function_words(text: str, language: str) -> None:
    """English when nothing decides."""
    assert detect(text) == language


def test_inflection_does_not_matter_and_function_words_do_not_count() -> None:
    """German umlauts in plurals, English endings."""
    assert terms("Wie viele Häuser sind das?", "de") == terms("Haus", "de")
    assert terms("What are the restored backups?", "en") == terms("restoring backup", "en")


def test_compounds_cover_in_part() -> None:
    """`Frist` is in `Kündigungsfrist`; three letters are too few."""
    asked = weights(terms("Welche Frist gilt?", "de"), [["frist"], ["ander"]])
    assert coverage(asked, terms("Die Kündigungsfrist beträgt einen Monat.", "de")) == pytest.approx(0.7)
    asked = weights(terms("Welcher Rat?", "de"), [["rat"]])
    assert coverage(asked, terms("Der Vorrat reicht.", "de")) == 0.0


def test_rare_terms_weigh_more() -> None:
    """What every sentence has says little."""
    found = weights(["harbour", "backup"], [["harbour"], ["harbour", "backup"], ["harbour"]])
    assert found["backup"] > 3 * found["harbour"]


@pytest.mark.parametrize(
    ("question", "asked", "with_it", "without"),
    [
        ("Wie lange dauert das?", True, "Es dauert eine Stunde.", "Es dauert."),
        ("Wann ist Wartung?", True, "Jeden Samstag.", "Bei Bedarf."),
        ("How many are there?", True, "There are three.", "There are some."),
        ("Wer darf das?", False, "", ""),
    ],
)
def test_questions_for_quantities(question: str, asked: bool, with_it: str, without: str) -> None:
    """Numbers, dates and spans of time, in digits or words."""
    assert is_asked_for(question) is asked
    if asked:
        assert is_in(with_it)
        assert not is_in(without)


def test_questions_for_prices() -> None:
    """Money is asked for and named in both languages."""
    assert is_price_asked_for("Was kostet ein Stapler?")
    assert is_price_asked_for("What is the price?")
    assert is_price_in("Er kostet 5 €.")
    assert not is_price_in("Ein Stapler trägt höchstens 1.600 kg.")
