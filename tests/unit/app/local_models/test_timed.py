"""The embedder's breaker: what counts, and what a caller gets while it is open."""

from __future__ import annotations

import os

import msgspec
import pytest

from app.errors import ContextTooLong
from app.local_models.embedder import LIMITS, LocalEmbedder
from app.local_models.errors import EmbedderBusy, EmbedderUnavailable
from app.local_models.timed import BREAKER, TimedEmbedder
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard

pytestmark = pytest.mark.requirement("RES-1")

SETTINGS = ResilienceSettings(circuit_breaker_failure_threshold=3)


async def test_an_embedder_that_is_away_opens_it() -> None:
    """Afterwards it is not asked; the error is the one that callers know."""
    guard = ResilientGuard(SETTINGS.breaker, SETTINGS.retry)
    embedder = TimedEmbedder(LocalEmbedder(env=os.environ))
    embedder.guard_with(guard)
    for _ in range(3):
        with pytest.raises(EmbedderUnavailable, match="not running"):
            await embedder.embed(["x"], "query")
    assert guard.states()[BREAKER] == "open"
    with pytest.raises(EmbedderUnavailable, match="not asked for now") as refused:
        await embedder.embed(["x"], "query", timeout_s=0.1)
    assert refused.value.retry_after_s == 2


async def test_much_work_and_long_texts_do_not_open_it() -> None:
    """A full queue and a text that is too long say nothing about its being there."""
    guard = ResilientGuard(SETTINGS.breaker, SETTINGS.retry)
    limits = {lane: msgspec.structs.replace(of_lane, queued_bytes=1) for lane, of_lane in LIMITS.items()}
    local = LocalEmbedder(env=os.environ, limits=limits)
    embedder = TimedEmbedder(local)
    embedder.guard_with(guard)
    await local.start()
    try:
        for _ in range(5):
            with pytest.raises(EmbedderBusy):
                await embedder.embed(["more than a byte"], "passage")
            with pytest.raises(ContextTooLong):
                await embedder.embed(["x" * (1 << 19)], "passage")
    finally:
        await local.stop()
    assert guard.states() == {BREAKER: "closed"}
