"""What a statement does, told from its words."""

from __future__ import annotations

import pytest

from app.database.instruments import OPERATIONS, Statement, read_statement


@pytest.mark.parametrize(
    ("sql", "operation", "name"),
    [
        ("select 1", "select", "select"),
        ("SELECT a FROM files WHERE b = 'x'", "select", "select files"),
        ("\n  insert into chunks (a) values (%s)", "insert", "insert chunks"),
        ("UPDATE api_keys SET a = 1", "update", "update api_keys"),
        ("delete from only files where a = 1", "delete", "delete files"),
        ("-- why\nselect * from jobs.procrastinate_jobs", "select", "select jobs.procrastinate_jobs"),
        ("with a as (select 1) select * from a", "select", "select a"),
        ("with a as (select 1) insert into b select * from a", "insert", "insert b"),
        ("set local role wattos_auth", "other", "other"),
        ("", "other", "other"),
    ],
)
def test_a_statement_is_named_by_operation_and_table(sql: str, operation: str, name: str) -> None:
    """Five operations and no more, so that they can be a label; never a value."""
    assert read_statement(sql) == Statement(operation, name)
    assert operation in OPERATIONS
