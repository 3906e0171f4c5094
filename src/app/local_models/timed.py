"""The embedder with each call timed, for whoever calls it without a chain: retrieval, answers in quotes, ingestion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from app.local_models.embedder import LocalEmbedder
from plugins.contract.nulls import NullSlowLog
from plugins.contract.ports import SlowLog


class TimedEmbedder:
    """The `Embedder` port around the local one."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self._embedder = embedder
        self._slow_log: SlowLog = NullSlowLog()

    def observe_with(self, slow_log: SlowLog) -> None:
        """The embedder is made before the log of slow operations is known."""
        self._slow_log = slow_log

    @property
    def model(self) -> str:
        return self._embedder.model

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    async def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"], *, urgent: bool | None = None
    ) -> Sequence[Sequence[float]]:
        began_s = time.perf_counter()
        try:
            return await self._embedder.embed(texts, kind, urgent=urgent)
        finally:
            self._slow_log.took("embedding", f"{self.model} {kind}", (time.perf_counter() - began_s) * 1000)
