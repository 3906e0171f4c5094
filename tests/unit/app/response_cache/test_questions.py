"""Vectors of questions that are asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import pytest

from app.response_cache.questions import MAX_CHARS, KnownQuestions
from plugins.cache.memory import MemoryCache
from plugins.contract.errors import RetryableError
from plugins.contract.nulls import NullCache
from plugins.contract.ports import Cache
from plugins.contract.principal import TenantId

ONE, OTHER = TenantId(UUID(int=1)), TenantId(UUID(int=2))


class Embedding:
    """Its vectors tell the text's length, and no more exactly than float32 does."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def __call__(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        assert kind == "query"
        self.asked.append(list(texts))
        return [[float(len(text)), 0.5] for text in texts]


def memory() -> Cache:
    return MemoryCache(max_bytes=1 << 20, max_entry_bytes=1 << 16)


async def test_only_new_questions_are_embedded() -> None:
    """In their order."""
    embedding, known = Embedding(), KnownQuestions(memory(), "m")
    assert await known.embedded(ONE, ["a", "bb"], embedding) == [[1.0, 0.5], [2.0, 0.5]]
    assert await known.embedded(ONE, ["ccc", "bb", "a"], embedding) == [[3.0, 0.5], [2.0, 0.5], [1.0, 0.5]]
    assert embedding.asked == [["a", "bb"], ["ccc"]]
    await known.embedded(ONE, ["a"], embedding)
    assert len(embedding.asked) == 2


async def test_no_tenant_and_no_model_shares_with_another() -> None:
    embedding, cache = Embedding(), memory()
    await KnownQuestions(cache, "m").embedded(ONE, ["a"], embedding)
    await KnownQuestions(cache, "m").embedded(OTHER, ["a"], embedding)
    await KnownQuestions(cache, "n").embedded(ONE, ["a"], embedding)
    assert embedding.asked == [["a"]] * 3


async def test_a_long_text_is_no_question() -> None:
    embedding, known = Embedding(), KnownQuestions(memory(), "m")
    for _ in range(2):
        await known.embedded(ONE, ["x" * (MAX_CHARS + 1)], embedding)
    assert len(embedding.asked) == 2


async def test_without_a_cache_each_is_embedded_and_a_failure_is_the_callers() -> None:
    embedding, known = Embedding(), KnownQuestions(NullCache(), "m")
    assert [await known.embedded(ONE, ["a"], embedding) for _ in range(2)] == [[[1.0, 0.5]]] * 2
    assert len(embedding.asked) == 2

    async def away(texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        raise RetryableError("away")

    with pytest.raises(RetryableError):
        await KnownQuestions(memory(), "m").embedded(ONE, ["a"], away)
