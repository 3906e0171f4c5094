"""`docs/READINESS.md` claims no more than tests show."""

from __future__ import annotations

import re
import tomllib

import pytest

from server import ROOT

ROWS = tomllib.loads((ROOT / "docs" / "requirements.toml").read_text())


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_shown_by_tests_or_says_what_is_open(row: str) -> None:
    """A row without tests names what is missing; one that says nothing is missing has tests."""
    page = (ROOT / "docs" / "READINESS.md").read_text()
    (state, n_tests) = re.findall(rf"^\| \[{row}\]\([^)]*\) \| [^|]+ \| (\w+) \| (\d+) \|", page, flags=re.M)[0]
    still_open = ROWS[row]["open"]
    assert state == ("open" if n_tests == "0" else "partly" if still_open else "shown")
    assert (state == "shown") == (not still_open)


def test_the_contract_is_whole() -> None:
    """25 rows, each with its text."""
    assert len(ROWS) == 25
    assert all(of["title"] and of["contract"] for of in ROWS.values())
