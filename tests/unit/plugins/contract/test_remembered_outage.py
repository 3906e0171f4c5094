"""What is known outlives the database for a while, and its outage keeps nobody waiting."""

from __future__ import annotations

import asyncio

import pytest

from plugins.contract.errors import RetryableError
from plugins.contract.remembered import PATIENCE_S
from unit.plugins.contract.remembered_world import RECORD, REVOKED, Feed, cached
from unit.plugins.harness import FakeClock, FakeIdentityLookup, eventually


async def test_what_is_known_outlives_the_database_for_a_while() -> None:
    """Known credentials are taken for `max_stale_s` more; unknown ones are not; and nobody waits for it each time."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock, max_stale_s=300.0)
    await keys.find(b"a")
    lookup.failing = RetryableError("away")
    for _ in range(290):
        clock.now_s += 1
        assert await keys.find(b"a") is RECORD
        with pytest.raises(RetryableError):
            await keys.find(b"b")
    clock.now_s += 11
    with pytest.raises(RetryableError):
        await keys.find(b"a")
    lookup.failing = None
    assert await keys.find(b"a") is RECORD


async def test_a_slow_database_keeps_nobody_waiting_for_what_is_known() -> None:
    """A fifth of a second the first, then not at all for a second."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock, max_stale_s=300.0)
    await keys.find(b"a")
    lookup.gate = asyncio.Event()
    clock.now_s += 2
    before_s = asyncio.get_running_loop().time()
    for _ in range(100):
        assert await keys.find(b"a") is RECORD
    assert asyncio.get_running_loop().time() - before_s < 1
    await keys.close()


async def test_an_old_question_that_is_answered_at_last_shuts_nobody_out() -> None:
    """As when a frozen database goes on: the late answer stands in, though it is too old to be taken for a new one."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock, max_stale_s=300.0)
    await keys.find(b"a")
    lookup.gate = frozen = asyncio.Event()
    clock.now_s += 2
    assert await keys.find(b"a") is RECORD
    clock.now_s += 2
    late = asyncio.create_task(keys.find(b"a"))
    await asyncio.sleep(0)
    lookup.gate = asyncio.Event()  # for the next question, which is as slow
    frozen.set()
    assert await late is RECORD
    await keys.close()


async def test_an_outage_keeps_no_call_of_a_busy_key_waiting() -> None:
    """But the first: the database is asked twice a second meanwhile, and what it says counts from the next call on."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock, max_stale_s=300.0)
    await keys.find(b"a")
    clock.now_s += 2
    lookup.failing = RetryableError("away")
    assert await keys.find(b"a") is RECORD
    lookup.gate, n_asked = asyncio.Event(), len(lookup.asked)
    before_s = asyncio.get_running_loop().time()
    for _ in range(40):
        clock.now_s += 0.25
        assert await keys.find(b"a") is RECORD
        await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() - before_s < PATIENCE_S
    assert len(lookup.asked) == n_asked + 1, "one question at a time, however long it takes"
    lookup.gate.set()
    lookup.gate, lookup.failing, lookup.records = None, None, {b"a": REVOKED}
    await eventually(lambda: not keys._flights)
    clock.now_s += 0.5
    assert await keys.find(b"a") is RECORD
    await eventually(lambda: not keys._flights)
    assert await keys.find(b"a") is REVOKED


async def test_a_revoked_answer_is_not_served_when_the_database_goes_away() -> None:
    """It was told that it changed: then what was known is known to be wrong."""
    lookup, clock, feed = FakeIdentityLookup({b"a": RECORD}), FakeClock(), Feed()
    keys = cached(lookup, clock, feed=feed, max_stale_s=300.0)
    await keys.find(b"a")
    feed.tell(b"a")
    lookup.failing = RetryableError("away")
    with pytest.raises(RetryableError):
        await keys.find(b"a")


async def test_a_database_that_was_asked_in_vain_is_waited_for_once() -> None:
    """By whichever of all that remember: a request that asks several of them waits as long as for one."""
    clock, feed = FakeClock(), Feed()
    lookups = [FakeIdentityLookup({b"a": RECORD}) for _ in range(4)]
    rooms = [cached(lookup, clock, feed=feed, max_stale_s=300) for lookup in lookups]
    for room in rooms:
        assert await room.find(b"a") is RECORD
    clock.now_s += 2
    for lookup in lookups:
        lookup.gate = asyncio.Event()
    began_s = asyncio.get_running_loop().time()
    for room in rooms:
        assert await room.find(b"a") is RECORD
    assert asyncio.get_running_loop().time() - began_s < 2 * PATIENCE_S
    for room in rooms:
        await room.close()
