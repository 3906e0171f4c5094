"""Cache keys: equal only when everything is."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.keys import create_key
from plugins.contract.principal import DEFAULT_TENANT_ID, TenantId

pytestmark = pytest.mark.requirement("PERF-1")

texts = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates too
parts = st.lists(texts | st.binary(max_size=8), max_size=5)
questions = st.tuples(st.uuids(), texts, parts)


def _key(question: tuple[UUID, str, list[str | bytes]]) -> str:
    return create_key(TenantId(question[0]), question[1], question[2])


@given(questions, questions)
def test_keys_are_equal_only_for_equal_questions(
    one: tuple[UUID, str, list[str | bytes]], other: tuple[UUID, str, list[str | bytes]]
) -> None:
    """Tenant, namespace, every part, its kind and where it is split: each makes a key of its own."""
    assert (_key(one) == _key(other)) == (one == other)
    assert _key(one) == _key((one[0], one[1], list(one[2])))


@given(st.text(min_size=1, max_size=20), st.data())
def test_keys_differ_for_every_split_of_one_text(text: str, data: st.DataObject) -> None:
    """("ab", "c") is not ("a", "bc")."""
    at, other = (data.draw(st.integers(0, len(text))) for _ in range(2))
    same = _key((DEFAULT_TENANT_ID, "n", [text[:at], text[at:]])) == _key(
        (DEFAULT_TENANT_ID, "n", [text[:other], text[other:]])
    )
    assert same == (at == other)


@given(questions)
def test_the_tenant_is_in_clear_in_its_keys(question: tuple[UUID, str, list[str | bytes]]) -> None:
    """So a tenant's entries can be found, and two tenants never share one."""
    assert _key(question).startswith(f"{question[0]}:")
