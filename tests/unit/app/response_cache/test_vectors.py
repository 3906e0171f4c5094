"""Vectors of one answer are of one model."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.llm.answers import Embedded
from app.llm.caching import CacheWish
from app.llm.model import EmbeddingCall, Plan, Target, Vectors
from app.response_cache.vectors import CachedEmbedding, kept_vector, read_vector
from plugins.cache.memory import MemoryCache
from plugins.contract.nulls import NullMeter

ONE, OTHER = (
    Target(id=name, alias="a", provider_model=f"openai/{name}", transport="direct", mode="embedding")
    for name in ("one", "other")
)
PLAN = Plan(targets=(ONE, OTHER))
KEEP = CacheWish(mode="readwrite")


class Answering:
    """A `Chain` whose targets have vectors of their own."""

    def __init__(self) -> None:
        self.target = ONE
        self.sent: list[tuple[str, ...]] = []

    async def embed(self, call: EmbeddingCall, plan: Plan) -> Embedded:
        self.sent.append(tuple(map(str, call.texts)))
        rows = [[1.0 if self.target is ONE else 2.0] for _ in call.texts]
        vectors = Vectors(rows=rows, usage=None)
        return Embedded(vectors=vectors, target=self.target, attempts=1, cost_nusd=None)

    def cached(self, call: EmbeddingCall, target_id: str) -> None:
        pass


@pytest.fixture
def chain() -> Answering:
    return Answering()


@pytest.fixture
def cached(chain: Any) -> CachedEmbedding:
    cache = MemoryCache(max_bytes=1 << 20, max_entry_bytes=1 << 16)
    return CachedEmbedding(chain, cache, state="miss", meter=NullMeter())


def asking(*texts: str) -> EmbeddingCall:
    return EmbeddingCall(alias="a", tenant_id=UUID(int=1), texts=texts)


async def test_vectors_of_two_models_are_never_in_one_answer(chain: Answering, cached: CachedEmbedding) -> None:
    """When another target has to answer, it embeds all of them: its vectors compare with no other's."""
    await cached.embed(asking("a"), PLAN, KEEP)
    chain.target = OTHER
    done = await cached.embed(asking("a", "b"), PLAN, KEEP)
    assert done.vectors.rows == [[2.0], [2.0]]
    assert chain.sent == [("a",), ("b",), ("a", "b")]
    again = await cached.embed(asking("b", "a"), PLAN, KEEP)
    assert (again.cache, again.target, again.vectors.rows) == ("hit", OTHER, [[2.0], [2.0]])


async def test_what_two_models_once_gave_is_asked_anew(chain: Answering, cached: CachedEmbedding) -> None:
    await cached.embed(asking("a"), PLAN, KEEP)
    chain.target = OTHER
    await cached.embed(asking("b"), PLAN, KEEP)
    done = await cached.embed(asking("a", "b"), PLAN, KEEP)
    assert (done.cache, done.vectors.rows) == ("miss", [[2.0], [2.0]])
    assert all(chain.sent), "a vendor refuses an empty list"


async def test_without_a_tenant_nothing_is_kept(chain: Answering, cached: CachedEmbedding) -> None:
    call = msgspec.structs.replace(asking("a"), tenant_id=None)
    assert [(await cached.embed(call, PLAN, KEEP)).cache for _ in range(2)] == ["off", "off"]


@given(st.lists(st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False)))
def test_a_vector_comes_back_to_the_bit(row: list[float]) -> None:
    """In half the room where float32 says it exactly."""
    kept = read_vector(kept_vector("t", 1, row))
    assert kept is not None
    assert list(map(float.hex, kept.row)) == list(map(float.hex, row))


@pytest.mark.parametrize("value", [None, b"", b"no", msgspec.msgpack.encode(["t", 1, "x", b""])])
def test_what_cannot_be_read_is_a_miss(value: bytes | None) -> None:
    assert read_vector(value) is None
