"""A target that begins streams and then breaks them is a target that fails."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from app.errors import UpstreamTimeout, UpstreamUnavailable
from app.llm.model import Target, Timeouts
from plugins.contract.errors import CircuitOpen
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.app.llm.scripted import World, asked, target, within
from unit.app.llm.support import asking, plan

pytestmark = pytest.mark.requirement("RES-1")

THRESHOLD = 3


class Guarded(World):
    """A world with breakers."""

    def __init__(self) -> None:
        settings = ResilienceSettings(circuit_breaker_failure_threshold=THRESHOLD)
        self.guard = ResilientGuard(settings.breaker, settings.retry)
        super().__init__(guard=self.guard)

    def n_failures(self, name: str) -> int:
        return self.guard.circuits.statuses()[name].n_failures


async def test_who_breaks_every_stream_is_spared() -> None:
    """After as many as any other failures; then the next target is asked, and without one the caller is told."""
    world = Guarded()
    for n in range(THRESHOLD):
        assert n == 0 or world.n_failures("tears") == n
        with pytest.raises(UpstreamUnavailable):
            await asked(world, asking(stream=True), target("tears"), target("two"))
    assert world.guard.states()["tears"] == "open"
    assert await asked(world, asking(stream=True), target("tears"), target("two")) == "two"
    with pytest.raises(CircuitOpen):
        await asked(world, asking(), target("tears"))


async def test_one_that_goes_silent_is_spared() -> None:
    """A stall is a failure like any other."""
    world = Guarded()
    silent = msgspec.structs.replace(target("breaks"), timeouts=Timeouts(silence_s=0.01))
    for _ in range(THRESHOLD):
        with pytest.raises(UpstreamTimeout):
            await asked(world, asking(stream=True), silent)
    assert world.guard.states()["breaks"] == "open"


async def test_streams_that_end_well_end_the_row() -> None:
    """As any success does."""
    world = Guarded()
    for _ in range(2 * THRESHOLD):
        with pytest.raises(UpstreamUnavailable):
            await asked(world, asking(stream=True), named("tears"))
        assert await asked(world, asking(stream=True), named("one")) == "one"
    assert world.guard.states() == {"both": "closed"}


def named(name: str) -> Target:
    """Two ways of the same target."""
    return msgspec.structs.replace(target(name), label="both")


@pytest.mark.parametrize("why", ["left", "deadline", "own key"])
async def test_what_is_not_the_targets_fault_does_not_count(why: str) -> None:
    """A reader who leaves, whose patience ends, or whose own key it was."""
    world = Guarded()
    call, one = asking(stream=True), target("breaks", own_key_id="pkey_1" if why == "own key" else "")
    for _ in range(THRESHOLD):
        streamed = await world.chain.stream(within(call, 0.05) if why == "deadline" else call, plan(one))
        await anext(streamed.pieces)
        if why == "left":
            await streamed.pieces.aclose()  # type: ignore[attr-defined]  # an async generator
        else:
            with pytest.raises(UpstreamUnavailable if why == "own key" else UpstreamTimeout):
                await anext(streamed.pieces)
        await world.chain.settle()
    await asyncio.sleep(0)
    assert world.guard.states() == ({} if why == "own key" else {"breaks": "closed"})
    assert why == "own key" or world.n_failures("breaks") == 0
