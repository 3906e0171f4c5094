"""What operators, background probes and other replicas say to a breaker."""

from __future__ import annotations

import asyncio

import pytest

from plugins.contract.breakers import BreakerStatus
from plugins.contract.errors import CircuitOpen, RetryableError
from unit.plugins.resilience.test_breaker import POLICY, Circuit

pytestmark = pytest.mark.requirement("RES-1")


async def fail_often(circuit: Circuit, n: int = 10) -> None:
    for _ in range(n):
        await circuit.fail()


async def test_forced_open_is_never_called_and_says_who() -> None:
    """Until it is set free, however long that takes; nobody is told to come back at some time."""
    circuit = Circuit()
    circuit.breaker.force("open")
    circuit.clock.now_s += 1e6
    refusal = await circuit.refused()
    assert (refusal.retry_after_s, refusal.message) == (None, "a is switched off by an operator")
    assert circuit.breaker.status == BreakerStatus(state="open", forced="open")


async def test_forced_closed_is_always_called() -> None:
    """No failure opens it, and none counts once it is set free."""
    circuit = Circuit()
    circuit.breaker.force("closed")
    await fail_often(circuit)
    circuit.breaker.force(None)
    await fail_often(circuit, POLICY.failure_threshold - 1)
    assert circuit.breaker.state == "closed"
    await circuit.fail()
    assert circuit.breaker.state == "open"


async def test_setting_free_begins_anew() -> None:
    """By its outcomes again, with none behind it."""
    circuit = Circuit()
    await circuit.open()
    circuit.breaker.force("open")
    circuit.breaker.force(None)
    assert circuit.breaker.status == BreakerStatus(state="closed")
    assert await circuit.succeed() == "ok"


async def test_setting_free_what_is_not_forced_changes_nothing() -> None:
    """It stands as its outcomes made it."""
    circuit = Circuit()
    await circuit.open()
    circuit.breaker.force(None)
    assert circuit.breaker.state == "open"


@pytest.mark.parametrize("forced", ["open", "closed", None])
async def test_reset_closes_and_forgets(forced: str | None) -> None:
    """Failures and forcing alike."""
    circuit = Circuit()
    await circuit.open()
    if forced is not None:
        circuit.breaker.force("open" if forced == "open" else "closed")
    circuit.breaker.reset()
    assert circuit.breaker.status == BreakerStatus(state="closed")
    await fail_often(circuit, POLICY.failure_threshold - 1)
    assert circuit.breaker.state == "closed"


async def test_outcomes_of_calls_from_before_a_reset_count_for_nothing() -> None:
    """An operator who resets has mended something meanwhile."""
    circuit, gate = Circuit(), asyncio.Event()
    await fail_often(circuit, POLICY.failure_threshold - 1)

    async def late() -> str:
        raise RetryableError("late")

    slow = [circuit.probe(gate, late) for _ in range(POLICY.failure_threshold)]
    await asyncio.sleep(0)
    circuit.breaker.reset()
    gate.set()
    await asyncio.gather(*slow, return_exceptions=True)
    assert circuit.breaker.status == BreakerStatus(state="closed")


async def test_what_recovered_in_the_background_is_called_at_once() -> None:
    """Open → half-open → closed, without waiting for the reset time."""
    circuit = Circuit()
    await circuit.open()
    circuit.breaker.recovered()
    assert circuit.changes == ["open", "half_open", "closed"]
    assert [change.cause for change in circuit.told] == ["outcome", "background", "background"]
    assert await circuit.succeed() == "ok"


async def test_what_recovered_while_a_probe_is_under_way_is_closed_for_all() -> None:
    """The probe's own outcome, which may be a time-out of before, opens nothing."""
    circuit, gate = Circuit(), asyncio.Event()
    await circuit.open()
    circuit.clock.now_s += 60

    async def late() -> str:
        raise RetryableError("late")

    probe = circuit.probe(gate, late)
    await asyncio.sleep(0)
    circuit.breaker.recovered()
    gate.set()
    await asyncio.gather(probe, return_exceptions=True)
    assert circuit.breaker.state == "closed"


async def test_what_is_forced_does_not_recover() -> None:
    """An operator's word holds."""
    circuit = Circuit()
    circuit.breaker.force("open")
    circuit.breaker.recovered()
    with pytest.raises(CircuitOpen):
        await circuit.succeed()


async def test_recovery_of_what_is_well_changes_nothing() -> None:
    """A health check that passes says nothing of calls that fail."""
    circuit = Circuit()
    await fail_often(circuit, POLICY.failure_threshold - 1)
    circuit.breaker.recovered()
    await circuit.fail()
    assert circuit.breaker.state == "open"


async def test_the_status_says_how_many_failed_and_how_long_it_waits() -> None:
    """What an operator looks at."""
    circuit = Circuit()
    await circuit.fail()
    circuit.clock.now_s += 10
    await circuit.fail()
    assert circuit.breaker.status == BreakerStatus(state="closed", n_failures=2)
    circuit.clock.now_s += 25
    assert circuit.breaker.status == BreakerStatus(state="closed", n_failures=1)
    await circuit.fail()
    await circuit.fail()
    circuit.clock.now_s += 20
    assert circuit.breaker.status == BreakerStatus(state="open", n_failures=2, retry_after_s=40)


async def test_each_change_is_told_once() -> None:
    """Forcing what is forced already, or closing what is closed, is no news."""
    circuit = Circuit()
    circuit.breaker.reset()
    assert circuit.told == []
    circuit.breaker.force("open")
    circuit.breaker.force("open")
    circuit.breaker.reset()
    assert [(change.state, change.forced) for change in circuit.told] == [("open", "open"), ("closed", None)]


async def test_another_replicas_opening_holds_for_the_rest_of_its_time() -> None:
    """Then one probe, as ever."""
    circuit = Circuit()
    now_s = circuit.clock.now_s
    circuit.breaker.follow_open(at_s=now_s - 20, until_s=now_s + 40)
    assert (await circuit.refused()).retry_after_s == 40
    assert [(change.state, change.cause) for change in circuit.told] == [("open", "replica")]
    circuit.clock.now_s += 40
    assert await circuit.succeed() == "ok"
    assert circuit.changes == ["open", "half_open", "closed"]


async def test_another_replicas_opening_is_no_news_to_who_was_answered_since() -> None:
    """Nor to who resets it since, nor once its time is over."""
    circuit = Circuit()
    now_s = circuit.clock.now_s
    await circuit.succeed()
    circuit.breaker.follow_open(at_s=now_s - 1, until_s=now_s + 59)
    circuit.clock.now_s += 10
    circuit.breaker.reset()
    circuit.breaker.follow_open(at_s=now_s + 5, until_s=now_s + 65)
    circuit.breaker.follow_open(at_s=now_s + 10.5, until_s=now_s + 9)
    assert circuit.told == []


async def test_no_replicas_clock_closes_the_way_for_longer_than_the_reset_time() -> None:
    """Somebody set it to next year."""
    circuit = Circuit()
    circuit.breaker.follow_open(at_s=circuit.clock.now_s + 1e7, until_s=circuit.clock.now_s + 1e7)
    assert (await circuit.refused()).retry_after_s == POLICY.reset_timeout_s


async def test_another_replicas_probe_closes_what_opened_before() -> None:
    """What ours saw later stays."""
    circuit = Circuit()
    await circuit.open()
    opened_at_s = circuit.clock.now_s
    circuit.clock.now_s += 5
    circuit.breaker.follow_closed(at_s=opened_at_s - 1)
    assert circuit.breaker.state == "open"
    circuit.breaker.follow_closed(at_s=opened_at_s + 1)
    assert circuit.breaker.state == "closed"


async def test_a_probe_of_our_own_is_not_cut_short() -> None:
    """It finds out for itself."""
    circuit, gate = Circuit(), asyncio.Event()
    await circuit.open()
    circuit.clock.now_s += 60

    async def well() -> str:
        return "ok"

    probe = circuit.probe(gate, well)
    await asyncio.sleep(0)
    circuit.breaker.follow_open(at_s=circuit.clock.now_s, until_s=circuit.clock.now_s + 60)
    gate.set()
    assert await probe == "ok"
    assert circuit.breaker.state == "closed"


async def test_of_what_operators_said_the_last_holds() -> None:
    """Wherever they said it."""
    circuit = Circuit()
    now_s = circuit.clock.now_s
    circuit.breaker.follow_forced("open", at_s=now_s - 10)
    assert circuit.breaker.status == BreakerStatus(state="open", forced="open")
    circuit.breaker.force("closed")
    circuit.breaker.follow_forced("open", at_s=now_s - 5)
    assert circuit.breaker.forced == "closed"
    circuit.breaker.follow_forced(None, at_s=now_s + 1)
    assert circuit.breaker.status == BreakerStatus(state="closed")
