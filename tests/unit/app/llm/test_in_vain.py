"""A target that answers nobody while its callers lose their patience is a target that fails."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import DeadlineExceeded
from app.llm.model import Call
from app.llm.traffic import Patience, Traffic
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from unit.app.llm.scripted import Behaviour, World, asked, target, within
from unit.app.llm.support import asking
from unit.plugins.harness import eventually

pytestmark = pytest.mark.requirement("RES-1")

THRESHOLD = 3
ONE, TWO = target("one"), target("two")
PATIENCE_S = 0.3


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def call(request: pytest.FixtureRequest) -> Call:
    return asking(stream=request.param)


class Hanging(World):
    """A first target that hangs, mostly answered in 10 ms, and has a breaker."""

    def __init__(self) -> None:
        settings = ResilienceSettings(circuit_breaker_failure_threshold=THRESHOLD)
        self.guard = ResilientGuard(settings.breaker, settings.retry)
        self.first = Behaviour(gate=asyncio.Event())
        patience = Patience(first_token_s=PATIENCE_S / 1.2, whole_s=PATIENCE_S / 1.2)
        super().__init__(guard=self.guard, patience=patience, one=self.first)
        self.slow_from("one", 10.0)

    async def given_up_by(self, n_callers: int, call: Call, patience_s: float) -> None:
        asking = [asked(self, within(call, patience_s), ONE, TWO) for _ in range(n_callers)]
        for failure in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(failure, DeadlineExceeded)


async def test_deadlines_that_pass_in_silence_open_the_breaker(call: Call) -> None:
    """They are shorter than the target's own times, which would never be reached: then the next target answers."""
    world = Hanging()
    await world.given_up_by(THRESHOLD, call, PATIENCE_S)
    assert world.guard.states()["one"] == "open"
    assert await asked(world, call, ONE, TWO) == "two"


async def test_callers_that_leave_in_silence_open_it(call: Call) -> None:
    """A client with a time-out of its own hangs up, as most do."""
    world = Hanging()
    leaving = [asyncio.create_task(asked(world, call, ONE, TWO)) for _ in range(THRESHOLD)]
    await asyncio.sleep(PATIENCE_S)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert world.guard.states()["one"] == "open"


async def test_the_impatient_open_nothing(call: Call) -> None:
    """Whoever waits for less than an answer takes must not close a target to others."""
    world = Hanging()
    await world.given_up_by(3 * THRESHOLD, call, 0.05)
    assert world.guard.states()["one"] == "closed"


async def test_one_that_answers_somebody_is_well(call: Call) -> None:
    """Some long answers are given up, and others come: the target is slow at most."""
    world = Hanging()
    waiting = asyncio.create_task(world.given_up_by(THRESHOLD, call, PATIENCE_S))
    await eventually(lambda: world.first.n_asked == THRESHOLD)
    gate, world.first.gate = world.first.gate, None
    assert await asked(world, call, ONE, TWO) == "one"
    world.first.gate = gate
    await waiting
    assert world.guard.states()["one"] == "closed"


async def test_a_probe_that_is_given_up_in_silence_opens_it_again(call: Call) -> None:
    """Else each caller would be the next probe, and wait in vain."""
    world = Hanging()
    await world.given_up_by(THRESHOLD, call, PATIENCE_S)
    breaker = world.guard.circuits.of("one")
    breaker.open_until_s = float("-inf")
    await world.given_up_by(1, call, PATIENCE_S)
    assert breaker.state == "open"
    assert await asked(world, call, ONE, TWO) == "two"


@pytest.mark.parametrize(
    ("n_answers", "ms", "is_whole", "from_s"),
    [
        (0, 0.0, True, 30.0),
        (0, 0.0, False, 10.0),
        (3, 20_000.0, False, 40.0),
        (100, 10.0, True, 30.0),
        (100, 10.0, False, 10.0),
        (100, 9_000.0, False, 18.0),
    ],
)
def test_how_long_is_in_vain(n_answers: int, ms: float, is_whole: bool, from_s: float) -> None:
    """Twice the p95, and never less than ten seconds for a first token, thirty for a whole answer."""
    traffic = Traffic()
    for _ in range(n_answers):
        traffic.begin("one")
        traffic.end("one", ms, is_whole=is_whole)
    assert traffic.in_vain_from_s("one", is_whole=is_whole) == from_s
