"""Vectors of questions over documents: the same is asked again within minutes, and embedding it takes 15 ms and more.

Passages are not kept here: each is embedded once, and then in the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from app.response_cache.vectors import Row, kept_vector, read_vector
from plugins.contract.ports import Cache
from plugins.contract.principal import TenantId

SHAPE = "questions-v1"

TTL_S = 3600.0
"""A vector is as right tomorrow; but what nobody asked for an hour takes room from what is asked now."""

MAX_CHARS = 2048
"""Of a question. Longer ones are pasted texts, which do not come again."""

Embed = Callable[[Sequence[str], Literal["query", "passage"]], Awaitable[Sequence[Row]]]


class KnownQuestions:
    """Of one model, whose name changes when its vectors do; each tenant's its own."""

    def __init__(self, cache: Cache, model: str) -> None:
        self._cache = cache
        self._model = model

    async def embedded(self, tenant_id: TenantId, questions: Sequence[str], embed: Embed) -> Sequence[Row]:
        """One vector a question, in order; only those that are new are embedded. Raises: what `embed` raises."""
        keys = [self._cache.create_key(tenant_id, SHAPE, (self._model, question)) for question in questions]
        kept = [read_vector(await self._cache.get(key)) for key in keys]
        new = [n for n, one in enumerate(kept) if one is None]
        fresh = dict(zip(new, await embed([questions[n] for n in new], "query") if new else (), strict=True))
        for n, row in fresh.items():
            if len(questions[n]) <= MAX_CHARS:
                await self._cache.set(keys[n], kept_vector(self._model, 0, row), ttl_s=TTL_S)
        return [fresh[n] if one is None else one.row for n, one in enumerate(kept)]
