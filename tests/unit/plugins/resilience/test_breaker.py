"""The breaker's promises, with a clock that is turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from plugins.contract.errors import AuthenticationFailed, CircuitOpen, Overloaded, RetryableError
from plugins.resilience.breaker import Breaker, BreakerPolicy, Change
from unit.plugins.harness import FakeClock, eventually

pytestmark = pytest.mark.requirement("RES-1")

POLICY = BreakerPolicy(failure_threshold=3, reset_timeout_s=60, monitoring_period_s=30)


class Circuit:
    """A breaker, its clock, and a dependency that does as told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[Change] = []
        self.breaker = Breaker("a", POLICY, self.clock, self.told.append)
        self.n_sent = 0

    @property
    def changes(self) -> list[str]:
        return [change.state for change in self.told]

    async def fail(self, exc: BaseException | None = None) -> None:
        failure = exc or RetryableError("down")
        with pytest.raises(type(failure)) as caught:
            await self.breaker.run(self._attempt(lambda: _raise(failure)))
        assert caught.value is failure

    async def succeed(self) -> str:
        return await self.breaker.run(self._attempt(lambda: _answer("ok")))

    async def refused(self) -> CircuitOpen:
        n_before = self.n_sent
        with pytest.raises(CircuitOpen) as caught:
            await self.succeed()
        assert self.n_sent == n_before
        return caught.value

    async def open(self) -> None:
        for _ in range(POLICY.failure_threshold):
            await self.fail()

    def probe(self, gate: asyncio.Event, then: Callable[[], Awaitable[str]]) -> asyncio.Task[str]:
        async def attempt() -> str:
            self.n_sent += 1
            await gate.wait()
            return await then()

        return asyncio.create_task(self.breaker.run(attempt))

    def _attempt(self, then: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        async def attempt() -> str:
            self.n_sent += 1
            return await then()

        return attempt


async def _raise(exc: BaseException) -> str:
    raise exc


async def _answer(text: str) -> str:
    return text


async def test_opens_at_the_threshold_and_refuses_without_sending() -> None:
    """Three failures in a row: the fourth call is refused, and told when the next probe may go."""
    circuit = Circuit()
    await circuit.open()
    assert circuit.breaker.state == "open"
    circuit.clock.now_s += 10
    assert (await circuit.refused()).retry_after_s == 50
    assert circuit.changes == ["open"]


async def test_each_refusal_is_an_exception_of_its_own() -> None:
    """A shared one would collect every caller's traceback."""
    circuit = Circuit()
    await circuit.open()
    assert await circuit.refused() is not await circuit.refused()


async def test_a_success_ends_the_row_of_failures() -> None:
    """Only failures in a row open."""
    circuit = Circuit()
    for _ in range(5):
        await circuit.fail()
        await circuit.fail()
        await circuit.succeed()
    assert circuit.breaker.state == "closed"


async def test_failures_older_than_the_monitoring_period_do_not_count() -> None:
    """A failure an hour is no outage; three within the period are."""
    circuit = Circuit()
    for _ in range(10):
        await circuit.fail()
        circuit.clock.now_s += 15
    assert circuit.breaker.state == "closed"
    await circuit.fail()
    await circuit.fail()
    assert circuit.breaker.state == "open"


async def test_a_probe_that_succeeds_closes() -> None:
    """After the reset time-out one call may try; its success is everybody's."""
    circuit = Circuit()
    await circuit.open()
    circuit.clock.now_s += 60
    assert await circuit.succeed() == "ok"
    assert circuit.breaker.state == "closed"
    assert circuit.changes == ["open", "half_open", "closed"]
    await circuit.fail()
    await circuit.fail()
    assert circuit.breaker.state == "closed"


async def test_a_probe_that_fails_opens_for_another_reset_timeout() -> None:
    """One failure is enough in half-open."""
    circuit = Circuit()
    await circuit.open()
    circuit.clock.now_s += 60
    await circuit.fail()
    assert circuit.changes == ["open", "half_open", "open"]
    assert (await circuit.refused()).retry_after_s == 60


async def test_half_open_lets_exactly_one_of_fifty_through() -> None:
    """A dependency that just came back is not run over."""
    circuit = Circuit()
    await circuit.open()
    circuit.clock.now_s += 60
    gate, n_before = asyncio.Event(), circuit.n_sent
    calls = [circuit.probe(gate, lambda: _answer("ok")) for _ in range(50)]
    await eventually(lambda: sum(call.done() for call in calls) == 49)
    assert circuit.n_sent == n_before + 1
    gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results.count("ok") == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 49
    assert circuit.breaker.state == "closed"


async def test_a_cancelled_probe_neither_closes_nor_wedges() -> None:
    """The client left: that says nothing about the dependency, and the next call may probe at once."""
    circuit = Circuit()
    await circuit.open()
    circuit.clock.now_s += 60
    probe = circuit.probe(asyncio.Event(), lambda: _answer("never"))
    await eventually(lambda: circuit.breaker.state == "half_open")
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert circuit.breaker.state == "half_open"
    await circuit.fail()
    assert circuit.breaker.state == "open"


async def test_cancellations_never_open() -> None:
    """A crowd of leaving clients is no outage."""
    circuit = Circuit()
    for _ in range(10):
        call = circuit.probe(asyncio.Event(), lambda: _answer("never"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert circuit.breaker.state == "closed"


@pytest.mark.parametrize(
    "exc", [AuthenticationFailed("no"), ValueError("bug"), CircuitOpen("another breaker's"), Overloaded("full")]
)
async def test_errors_that_are_not_the_dependencys_neither_open_nor_close(exc: Exception) -> None:
    """A refused request, a bug of ours, a refusal further in: in closed they do not count, in half-open they free
    the probe's place."""
    circuit = Circuit()
    for _ in range(10):
        await circuit.fail(exc)
    await circuit.fail()
    await circuit.fail(exc)
    assert circuit.breaker.state == "closed"
    await circuit.fail()
    await circuit.fail()
    assert circuit.breaker.state == "open"
    circuit.clock.now_s += 60
    await circuit.fail(exc)
    assert circuit.breaker.state == "half_open"
    assert await circuit.succeed() == "ok"
    assert circuit.breaker.state == "closed"


async def test_a_probe_that_hangs_gives_way_to_another_after_a_reset_timeout() -> None:
    """Its late outcome counts for nothing."""
    circuit = Circuit()
    await circuit.open()
    circuit.clock.now_s += 60
    gate = asyncio.Event()
    hanging = circuit.probe(gate, lambda: _raise(RetryableError("late")))
    await eventually(lambda: circuit.breaker.state == "half_open")
    circuit.clock.now_s += 59
    await circuit.refused()
    circuit.clock.now_s += 1
    assert await circuit.succeed() == "ok"
    gate.set()
    with pytest.raises(RetryableError, match="late"):
        await hanging
    assert circuit.breaker.state == "closed"
    await circuit.fail()
    await circuit.fail()
    assert circuit.breaker.state == "closed"


async def test_a_probe_that_is_slower_than_the_reset_timeout_closes_all_the_same() -> None:
    """A target whose answers take longer than that would never be called again, however well it is."""
    circuit = Circuit()
    await circuit.open()
    circuit.clock.now_s += 60
    gates = [asyncio.Event(), asyncio.Event()]
    first = circuit.probe(gates[0], lambda: _answer("first"))
    await eventually(lambda: circuit.breaker.state == "half_open")
    circuit.clock.now_s += 60
    second = circuit.probe(gates[1], lambda: _answer("second"))
    await asyncio.sleep(0)
    gates[0].set()
    assert await first == "first"
    assert circuit.breaker.state == "closed"
    gates[1].set()
    assert await second == "second"
    assert circuit.breaker.state == "closed"


async def test_outcomes_of_calls_from_before_the_opening_count_for_nothing() -> None:
    """A slow success from before does not close, nor do slow failures reopen."""
    circuit = Circuit()
    gates = [asyncio.Event(), asyncio.Event()]
    slow_success = circuit.probe(gates[0], lambda: _answer("slow"))
    slow_failure = circuit.probe(gates[1], lambda: _raise(RetryableError("slow")))
    await asyncio.sleep(0)
    await circuit.open()
    circuit.clock.now_s += 60
    gates[0].set()
    assert await slow_success == "slow"
    assert circuit.breaker.state == "open"
    assert await circuit.succeed() == "ok"
    gates[1].set()
    await asyncio.gather(slow_failure, return_exceptions=True)
    assert circuit.changes == ["open", "half_open", "closed"]
