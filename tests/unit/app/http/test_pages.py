"""Cursor pages: each row once, and a cursor to go on from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.database.paging import Rows
from app.http.pages import page


@given(n_rows=st.integers(0, 12), limit=st.integers(1, 5))
def test_walking_the_pages_shows_every_row_once(n_rows: int, limit: int) -> None:
    """A store is asked for one row more than the page: there is more exactly when that one came."""
    rows, seen = list(range(n_rows)), list[int]()
    while True:
        cut = Rows.cut(rows[len(seen) : len(seen) + limit + 1], limit)
        assert len(cut.items) <= limit
        seen += cut.items
        if not cut.has_more:
            break
        assert len(cut.items) == limit
    assert seen == rows


def test_page_names_its_first_and_last() -> None:
    """`after=last_id` is the next page; an empty page has neither."""
    full = page(["a", "b"], ["id_a", "id_b"], has_more=True)
    assert (full.object, full.first_id, full.last_id, full.has_more) == ("list", "id_a", "id_b", True)
    empty = page([], [], has_more=False)
    assert (empty.first_id, empty.last_id, empty.has_more) == (None, None, False)
