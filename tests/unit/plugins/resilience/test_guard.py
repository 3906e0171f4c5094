"""Retries around the breaker, with a clock that is turned by the sleeps themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.errors import AuthenticationFailed, CircuitOpen, Overloaded, RetryableError, SettingsError
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from plugins.resilience.plugin import ResiliencePlugin
from unit.plugins.harness import FakeClock, RecordingMeter

pytestmark = pytest.mark.requirement("RES-2")


class Dependency:
    """Answers with each of the given outcomes in turn, then with "ok"."""

    def __init__(self, *outcomes: BaseException) -> None:
        self._outcomes = [*outcomes]
        self.n_calls = 0

    async def __call__(self) -> str:
        self.n_calls += 1
        if self._outcomes:
            raise self._outcomes.pop(0)
        return "ok"


def down(retry_after_s: float | None = None) -> RetryableError:
    return RetryableError("down", retry_after_s=retry_after_s)


class World:
    def __init__(self, env: dict[str, str] | None = None, uniform: Callable[[], float] = lambda: 1.0) -> None:
        settings = load_settings(ResilienceSettings, env or {})
        self.clock, self.meter = FakeClock(), RecordingMeter()
        self.guard = ResilientGuard(
            settings.breaker, settings.retry, clock=self.clock, sleep=self.clock.sleep, uniform=uniform
        )
        self.guard.observe_with(self.meter)

    async def call(
        self, dependency: Dependency, *, retry: bool = True, name: str = "a", within_s: float | None = None
    ) -> str:
        deadline_s = None if within_s is None else self.clock() + within_s
        return await self.guard.call(name, dependency, retry=retry, deadline_s=deadline_s)


async def test_a_failure_is_tried_again_with_growing_waits() -> None:
    """Defaults: three attempts, 1 s, then 2 s at most."""
    world, dependency = World(), Dependency(down(), down())
    assert await world.call(dependency) == "ok"
    assert world.clock.slept_s == [1.0, 2.0]
    assert world.meter.total["retry_attempts_total", "a", "failed"] == 1
    assert world.meter.total["retry_attempts_total", "a", "succeeded"] == 1


async def test_waits_are_full_jitter_up_to_the_maximum() -> None:
    """Anything between nothing and the backoff, never over RETRY_MAX_DELAY."""
    env = {"RETRY_MAX_ATTEMPTS": "8", "RETRY_MAX_DELAY": "5000", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "99"}
    world = World(env, uniform=lambda: 0.5)
    await world.call(Dependency(*(down() for _ in range(7))))
    assert world.clock.slept_s == [0.5, 1.0, 2.0, 2.5, 2.5, 2.5, 2.5]
    world = World(env, uniform=lambda: 0.0)
    await world.call(Dependency(*(down() for _ in range(7))))
    assert world.clock.slept_s == [0.0] * 7


async def test_the_last_failure_is_raised_when_attempts_are_used_up() -> None:
    """The caller sees what really happened last."""
    failures = [down(), down(), down()]
    world, dependency = World(), Dependency(*failures)
    with pytest.raises(RetryableError) as caught:
        await world.call(dependency)
    assert caught.value is failures[2]
    assert dependency.n_calls == 3


async def test_nothing_is_tried_again_unless_the_caller_allows() -> None:
    """`retry=False`: one attempt, breaker included."""
    world, dependency = World(), Dependency(down())
    with pytest.raises(RetryableError):
        await world.call(dependency, retry=False)
    assert dependency.n_calls == 1
    assert world.clock.slept_s == []


@pytest.mark.parametrize("exc", [AuthenticationFailed("no"), ValueError("bug"), CircuitOpen("in"), Overloaded("in")])
async def test_errors_that_would_come_again_are_not_tried_again(exc: Exception) -> None:
    """Only what is retryable, and never a refusal."""
    world, dependency = World(), Dependency(exc)
    with pytest.raises(type(exc)):
        await world.call(dependency)
    assert dependency.n_calls == 1


async def test_retry_after_is_the_least_wait() -> None:
    """What the other side asks for is kept, and jitter comes on top."""
    world = World(uniform=lambda: 0.5)
    await world.call(Dependency(down(7.0)))
    assert world.clock.slept_s == [7.5]


async def test_the_call_is_given_up_when_retry_after_is_over_the_maximum() -> None:
    """Nobody waits for minutes: the next target is asked."""
    world, dependency = World(), Dependency(down(30.001))
    with pytest.raises(RetryableError):
        await world.call(dependency)
    assert dependency.n_calls == 1
    assert world.clock.slept_s == []


async def test_no_wait_ends_past_the_deadline() -> None:
    """The last failure is raised at once: somebody else may still be asked."""
    world, dependency = World(), Dependency(down(), down())
    assert await world.call(dependency, within_s=3.001) == "ok"
    world, dependency = World(), Dependency(down(), mine := down())
    with pytest.raises(RetryableError) as caught:
        await world.call(dependency, within_s=3.0)
    assert caught.value is mine
    assert world.clock.slept_s == [1.0]
    assert world.meter.total["retry_refusals_total", "a", "deadline"] == 1


async def test_retry_after_is_never_waited_for_past_the_deadline() -> None:
    """However patient the settings are."""
    world, dependency = World(), Dependency(down(7.0))
    with pytest.raises(RetryableError):
        await world.call(dependency, within_s=7.0)
    assert world.clock.slept_s == []


async def test_retries_are_a_share_of_the_calls() -> None:
    """A hundred calls that fail: twenty retries, not two hundred; a minute later there are some again."""
    env = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000", "RETRY_INITIAL_DELAY": "0"}
    world, n_sent = World(env), 0
    for _ in range(100):
        with pytest.raises(RetryableError):
            await world.call(dependency := Dependency(*(down() for _ in range(3))))
        n_sent += dependency.n_calls
    assert n_sent == 120
    assert world.meter.total["retry_refusals_total", "a", "budget"] == 95
    assert await world.call(Dependency(down()), name="b") == "ok"
    world.clock.now_s += 61
    assert await world.call(Dependency(down())) == "ok"


async def test_refused_calls_earn_no_retries() -> None:
    """Else an outage would be paid back in retries."""
    env = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1", "RETRY_INITIAL_DELAY": "0", "CIRCUIT_BREAKER_RESET_TIMEOUT": "1"}
    world = World(env)
    with pytest.raises(RetryableError):
        await world.call(Dependency(down()))
    for _ in range(1000):
        with pytest.raises(CircuitOpen):
            await world.call(Dependency())
    world.guard.recovered("a")
    n_retried = 0
    for _ in range(20):
        world.guard.circuits.force("a", "closed")
        dependency = Dependency(down())
        await asyncio.gather(world.call(dependency), return_exceptions=True)
        n_retried += dependency.n_calls - 1
    assert n_retried == 10


async def test_no_wait_follows_the_failure_that_opened_the_circuit() -> None:
    """The next attempt would be refused: the failure itself is raised at once."""
    world, dependency = World({"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2"}), Dependency(down(), down(), down())
    with pytest.raises(RetryableError) as caught:
        await world.call(dependency)
    assert not isinstance(caught.value, CircuitOpen)
    assert dependency.n_calls == 2
    assert world.clock.slept_s == [1.0]
    with pytest.raises(CircuitOpen):
        await world.call(dependency)
    assert dependency.n_calls == 2
    assert world.meter.total["circuit_breaker_refusals_total", "a"] == 1
    assert world.meter.total["circuit_breaker_state_changes_total", "a", "open"] == 1


async def test_the_own_failure_is_raised_when_another_call_opened_the_circuit_meanwhile() -> None:
    """CircuitOpen means that nothing was sent; here something was."""
    env = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2"}
    world, mine = World(env), down()

    async def sleep(seconds: float) -> None:
        with pytest.raises(RetryableError):
            await world.call(Dependency(down()), retry=False)

    settings = load_settings(ResilienceSettings, env)
    world.guard = ResilientGuard(settings.breaker, settings.retry, clock=world.clock, sleep=sleep)
    dependency = Dependency(mine)
    with pytest.raises(RetryableError) as caught:
        await world.call(dependency)
    assert caught.value is mine
    assert dependency.n_calls == 1


async def test_cancellation_ends_the_wait() -> None:
    """A client that leaves is not waited for, and nothing more is sent."""
    world, dependency = World(), Dependency(down())
    sleeping = asyncio.Event()

    async def sleep(_: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    settings = ResilienceSettings()
    guard = ResilientGuard(settings.breaker, settings.retry, clock=world.clock, sleep=sleep)
    call = asyncio.create_task(guard.call("a", dependency, retry=True))
    await sleeping.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert dependency.n_calls == 1


async def test_cancellation_ends_a_repeated_attempt() -> None:
    """Cancelled inside tenacity's loop, the call is cancelled, not tried again."""
    world, attempting = World(), asyncio.Event()
    n_calls = 0

    async def attempt() -> str:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise down()
        attempting.set()
        await asyncio.Event().wait()
        return "never"

    call = asyncio.create_task(world.guard.call("a", attempt, retry=True))
    await attempting.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert n_calls == 2
    assert world.guard.states() == {"a": "closed"}


async def test_dependencies_have_circuits_of_their_own() -> None:
    """One dead target takes no other with it."""
    world = World({"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1"})
    with pytest.raises(RetryableError):
        await world.call(Dependency(down()), name="dead")
    assert await world.call(Dependency(), name="alive") == "ok"
    assert world.guard.states() == {"dead": "open", "alive": "closed"}


def test_settings_have_the_contracts_names_defaults_and_milliseconds() -> None:
    """Seven variables without a prefix."""
    settings = load_settings(ResilienceSettings, {})
    assert (settings.breaker.failure_threshold, settings.breaker.reset_timeout_s) == (5, 60.0)
    assert settings.breaker.monitoring_period_s == 60.0
    assert (settings.retry.max_attempts, settings.retry.initial_delay_s) == (3, 1.0)
    assert (settings.retry.max_delay_s, settings.retry.backoff_multiplier) == (30.0, 2)


@pytest.mark.parametrize(
    ("env", "culprit"),
    [
        ({"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "0"}, "CIRCUIT_BREAKER_FAILURE_THRESHOLD='0'"),
        ({"RETRY_MAX_ATTEMPTS": "three"}, "RETRY_MAX_ATTEMPTS='three'"),
        ({"RETRY_INITIAL_DELAY": "5000", "RETRY_MAX_DELAY": "1000"}, "RETRY_INITIAL_DELAY=5000"),
    ],
)
def test_start_is_refused_for_settings_out_of_range(env: dict[str, str], culprit: str) -> None:
    """The message names variable and value."""
    with pytest.raises(SettingsError, match=culprit):
        ResiliencePlugin.from_env(env)


async def test_the_plugin_gives_a_guard_that_counts_once_bound() -> None:
    """The guard is given before the meter is known."""
    plugin = ResiliencePlugin.from_env({"RETRY_INITIAL_DELAY": "0"})
    capabilities = plugin.contribute(Capabilities(meter=RecordingMeter()))
    plugin.bind(capabilities)
    assert await capabilities.guard.call("a", Dependency(down()), retry=True) == "ok"
    meter = capabilities.meter
    assert isinstance(meter, RecordingMeter)
    assert meter.total["retry_attempts_total", "a", "succeeded"] == 1
