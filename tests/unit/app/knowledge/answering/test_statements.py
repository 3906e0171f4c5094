"""Passages are read as what can be quoted: sentences, items, rows; headings and leads are their context."""

from app.grounding import Passage
from app.knowledge.answering.statements import Statement, statements


def read(text: str, heading: str = "") -> list[Statement]:
    passage = Passage(file_id="f", filename="f", text=text, start=0, heading=heading)
    found = statements(0, passage)
    assert all(text[s.start : s.end] == s.text for s in found)
    assert [s.order for s in found] == list(range(len(found)))
    return found


def test_headings_are_context_and_not_quotable() -> None:
    """Those of the breadcrumb, and lines of their own that end in no full stop."""
    found = read("Sicherung\n\nTäglich um eins.\n\nÜbung\n\nJährlich im Mai.", "Handbuch > Sicherung")
    assert [(s.text, s.context) for s in found] == [("Täglich um eins.", "Sicherung"), ("Jährlich im Mai.", "Übung")]


def test_question_as_heading_is_context() -> None:
    """In a list of questions and answers only the answers are quoted."""
    found = read("Darf ich das?\n\nNein. Nur sie darf.", "FAQ")
    assert [(s.text, s.context) for s in found] == [("Nein.", "Darf ich das?"), ("Nur sie darf.", "Darf ich das?")]


def test_items_lose_their_markers_and_know_their_lead() -> None:
    """Bullets and numbers; what follows without a marker belongs to the item before."""
    text = "Tun Sie dies:\n\n1. Erstens\nmit Zusatz\n2. Zweitens"
    found = read(text)
    assert [s.kind for s in found] == ["sentence", "item", "item"]
    assert [s.text for s in found[1:]] == ["Erstens\nmit Zusatz", "Zweitens"]
    assert found[1].lead == (0, len("Tun Sie dies:"))


def test_rows_know_their_header_also_from_the_breadcrumb() -> None:
    """A table cut in two still has named columns."""
    first = read("Rolle | Rechte\nLeser | lesen\nAutor | schreiben")
    assert [(s.kind, s.text) for s in first] == [("row", "Leser | lesen"), ("row", "Autor | schreiben")]
    assert first[0].lead == (0, len("Rolle | Rechte"))
    later = read("Chef | alles", "Handbuch > Rolle | Rechte")
    assert [(s.kind, s.context) for s in later] == [("row", "Handbuch Rolle | Rechte")]


def test_code_is_one_statement_with_its_lead() -> None:
    """Blank lines in it do not end it."""
    found = read("So geht es:\n\n```\nx = 1\n\ny = 2\n```\n\nFertig ist das.")
    assert [s.kind for s in found] == ["sentence", "code", "sentence"]
    assert found[1].lead == (0, len("So geht es:"))
