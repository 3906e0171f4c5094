"""The embedder with each call timed and guarded, for whoever calls it without a chain: retrieval, quotes, ingestion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from app.local_models.embedder import LocalEmbedder
from app.local_models.errors import EmbedderBusy, EmbedderUnavailable
from plugins.contract.errors import CircuitOpen
from plugins.contract.nulls import NullGuard, NullSlowLog
from plugins.contract.ports import Guard, SlowLog

BREAKER = "embedder"
"""In the guard."""

AGAIN_S = 2.0
"""When to try again while it is open: the health check closes it as soon as the child is ready."""


class _Busy(Exception):
    """Carries past the breaker what must not count. Never seen outside."""


class TimedEmbedder:
    """The `Embedder` port around the local one."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self._embedder = embedder
        self._slow_log: SlowLog = NullSlowLog()
        self._guard: Guard = NullGuard()

    def guard_with(self, guard: Guard) -> None:
        self._guard = guard

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
        self,
        texts: Sequence[str],
        kind: Literal["query", "passage"],
        *,
        urgent: bool | None = None,
        timeout_s: float | None = None,
    ) -> Sequence[Sequence[float]]:
        """Raises: as `LocalEmbedder.embed`; EmbedderUnavailable while the breaker is open."""

        async def attempt() -> Sequence[Sequence[float]]:
            try:
                return await self._embedder.embed(texts, kind, urgent=urgent, timeout_s=timeout_s)
            except EmbedderBusy as exc:  # there is much to do, which says nothing about its being there
                raise _Busy from exc

        began_s = time.perf_counter()
        try:
            return await self._guard.call(BREAKER, attempt, retry=False)
        except _Busy as busy:
            raise busy.__cause__ or busy from None
        except CircuitOpen:
            message = "The embedder did not answer, and is not asked for now."
            raise EmbedderUnavailable(message, retry_after_s=AGAIN_S) from None
        finally:
            self._slow_log.took("embedding", f"{self.model} {kind}", (time.perf_counter() - began_s) * 1000)
