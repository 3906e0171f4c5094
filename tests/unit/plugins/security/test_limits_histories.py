"""Random histories of several replicas on the real script: whatever dies when, no window is over the limit."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unit.plugins.harness import FakeClock
from unit.plugins.security.limits_world import EPOCH_MS, Replica, State
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("SEC-1")

N_REPLICAS = 3

loads = st.tuples(st.just("load"), st.integers(0, N_REPLICAS), st.integers(1, 24))
waits = st.tuples(st.just("pass"), st.just(0), st.sampled_from([10, 250, 1_000, 1_900, 4_000, 6_000, 58_000, 65_000]))
events = st.one_of(
    st.tuples(st.sampled_from(["die", "leave", "beat"]), st.integers(0, N_REPLICAS - 1), st.just(0)),
    st.tuples(st.sampled_from(["wipe", "away", "freeze", "back", "back"]), st.just(0), st.just(0)),
)
steps = st.one_of(loads, loads, waits, events)


class History:
    """The world as the steps make it. `admitted`: when, by whichever replica."""

    def __init__(self, limit: int, state: State) -> None:
        self.limit = limit
        self.clock = FakeClock()
        self.state = state
        self.n_born = 0
        self.admitted: list[float] = []
        self.replicas = [self.born() for _ in range(N_REPLICAS)]

    def born(self) -> Replica:
        self.n_born += 1
        return Replica(self.state, self.clock, f"r{self.n_born}")

    async def load(self, heaviest: int, n_beats: int) -> None:
        """More than the limit allows; the heaviest replica (`N_REPLICAS`: none) gets most of it."""
        for _ in range(n_beats):
            for i, replica in enumerate(self.replicas):
                for _ in range(self.limit if i == heaviest else max(1, self.limit // 50)):
                    if not replica.take(replica.share(self.limit)):
                        break
                    self.admitted.append(self.clock.now_s)
                await replica.beat()
            self.check()
            self.clock.now_s += 0.25

    async def step(self, what: str, which: int, amount: int) -> None:
        if what == "load":
            await self.load(which, amount)
        elif what == "pass":
            self.clock.now_s += amount / 1000
        elif what == "beat":
            await self.replicas[which].beat()
        elif what == "die":
            self.replicas[which] = self.born()
        elif what == "leave":
            await self.replicas[which].leases.farewell()
            self.replicas[which] = self.born()
        elif what == "wipe":
            await self.state.wipe()
        else:
            if self.state.is_frozen:
                self.state.is_frozen = False
                await self.state.read_delayed(EPOCH_MS + round(self.clock.now_s * 1000))
            self.state.is_away, self.state.is_frozen = what == "away", what == "freeze"
        if not any(replica.has_heard for replica in self.replicas):
            self.admitted.clear()  # all ended, perhaps Valkey too: docs/LIMITS.md says what is forgotten then

    def check(self) -> None:
        now_s = self.clock.now_s
        recent = [at_s for at_s in self.admitted if at_s > now_s - 60]
        assert len(recent) <= self.limit, "a window is over the limit"


async def play(url: str, limit: int, history: list[tuple[str, int, int]]) -> None:
    state = State(url)
    await state.wipe()
    try:
        world = History(limit, state)
        await world.load(N_REPLICAS, 12)
        for step in history:
            await world.step(*step)
    finally:
        await state.close()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.sampled_from([1, 2, 5, 20, 60, 100]), history=st.lists(steps, max_size=20))
def test_no_window_is_over_the_limit_whatever_happens(
    valkey: ValkeyServer, limit: int, history: list[tuple[str, int, int]]
) -> None:
    """Replicas die and leave, Valkey goes, freezes, forgets all and comes back: never one request too many."""
    asyncio.run(play(valkey.url, limit, history))
