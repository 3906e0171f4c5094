"""Answers from memory: fast, bounded, and never more than a second behind a database that can be heard."""

from __future__ import annotations

import asyncio

import pytest

from plugins.contract.errors import RetryableError
from plugins.contract.principal import Identity
from unit.plugins.contract.remembered_world import RECORD, REVOKED, Feed, cached
from unit.plugins.harness import FakeClock, FakeIdentityLookup, eventually


async def test_a_key_is_looked_up_once_a_second() -> None:
    """Known and unknown keys alike."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock)
    for _ in range(10):
        assert await keys.find(b"a") is RECORD
        assert await keys.find(b"b") is None
        clock.now_s += 0.1
    assert lookup.asked == [b"a", b"b"]
    clock.now_s += 0.01
    await keys.find(b"a")
    assert lookup.asked == [b"a", b"b", b"a"]


async def test_a_revoked_key_is_dead_within_a_second() -> None:
    """And a new one alive."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock)
    await keys.find(b"a")
    await keys.find(b"b")
    lookup.records = {b"a": REVOKED, b"b": RECORD}
    clock.now_s += 1.001
    assert await keys.find(b"a") is REVOKED
    assert await keys.find(b"b") is RECORD


async def test_fifty_askers_share_one_lookup() -> None:
    """A key that everybody uses costs one query when its second is over."""
    lookup = FakeIdentityLookup({b"a": RECORD})
    lookup.gate = asyncio.Event()
    keys = cached(lookup, FakeClock())
    asking = [asyncio.create_task(keys.find(b"a")) for _ in range(50)]
    await eventually(lambda: len(lookup.asked) > 0)
    asking[0].cancel()
    lookup.gate.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [RECORD] * 49
    assert lookup.asked == [b"a"]


async def test_an_answer_to_an_old_question_is_not_shared() -> None:
    """Who asks after a revocation never gets what was read over a second before."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    lookup.gate = asyncio.Event()
    keys = cached(lookup, clock)
    early = asyncio.create_task(keys.find(b"a"))
    await eventually(lambda: len(lookup.asked) == 1)
    lookup.records = {b"a": REVOKED}
    clock.now_s += 2
    late = asyncio.create_task(keys.find(b"a"))
    await asyncio.sleep(0)
    lookup.gate.set()
    assert await early is RECORD
    assert await late is REVOKED


async def test_a_failed_lookup_is_not_remembered() -> None:
    """Each asker gets an exception of its own, and the next one asks again."""
    lookup = FakeIdentityLookup({b"a": RECORD})
    lookup.failing = RetryableError("away", retry_after_s=3)
    keys = cached(lookup, FakeClock())
    failures = await asyncio.gather(*(keys.find(b"a") for _ in range(3)), return_exceptions=True)
    assert len({id(failure) for failure in failures}) == 3
    assert all(isinstance(f, RetryableError) and f.retry_after_s == 3 for f in failures)
    lookup.failing = None
    assert await keys.find(b"a") is RECORD


async def test_a_cached_key_does_not_outlive_its_second_when_the_database_is_away() -> None:
    """Authentication is closed then: an old answer is no answer."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock)
    await keys.find(b"a")
    lookup.failing = RetryableError("away")
    assert await keys.find(b"a") is RECORD
    clock.now_s += 1.001
    with pytest.raises(RetryableError, match="cannot be checked"):
        await keys.find(b"a")


async def test_a_lookup_that_hangs_ends_in_a_retryable_error() -> None:
    """The wait has a time-out."""
    lookup = FakeIdentityLookup()
    lookup.gate = asyncio.Event()
    with pytest.raises(RetryableError, match="cannot be checked"):
        await cached(lookup, FakeClock(), timeout_s=0.01).find(b"a")


async def test_guessing_does_not_push_out_keys_that_work() -> None:
    """Memory is bounded, and unknown keys have their own, smaller part of it."""
    lookup, clock = FakeIdentityLookup({b"a": RECORD}), FakeClock()
    keys = cached(lookup, clock, max_entries=10)
    await keys.find(b"a")
    for n in range(1000):
        await keys.find(n.to_bytes(4, "big"))
    assert lookup.asked.count(b"a") == 1
    await keys.find(b"a")
    assert lookup.asked.count(b"a") == 1


async def test_the_least_recently_used_key_goes_first() -> None:
    """At most `max_entries` known keys are kept."""
    lookup = FakeIdentityLookup({b"a": RECORD, b"b": RECORD, b"c": RECORD})
    keys = cached(lookup, FakeClock(), max_entries=2)
    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await keys.find(key)
    assert lookup.asked == [b"a", b"b", b"c", b"b"]


async def test_closing_cancels_what_is_under_way() -> None:
    """No task outlives the lifespan."""
    lookup = FakeIdentityLookup()
    lookup.gate = asyncio.Event()
    keys = cached(lookup, FakeClock())
    asking = asyncio.create_task(keys.find(b"a"))
    await eventually(lambda: len(lookup.asked) == 1)
    await keys.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_late_answer_is_asked_for_again_not_for_ever() -> None:
    """Who comes between an answer and its landing, a second late because the loop was busy, starts a look-up anew."""
    clock = FakeClock()

    class Late(FakeIdentityLookup):
        async def find(self, handle: bytes) -> Identity | None:
            if not self.asked:
                clock.now_s += 2
            return await super().find(handle)

    lookup = Late({b"a": RECORD})
    keys = cached(lookup, clock)
    early = asyncio.create_task(keys.find(b"a"))
    late: list[asyncio.Task[Identity | None]] = []
    # In the loop's turn between the look-up's end and its landing.
    asyncio.get_running_loop().call_soon(lambda: late.append(asyncio.create_task(keys.find(b"a"))))
    assert await early is RECORD
    assert await late[0] is RECORD
    assert lookup.asked == [b"a", b"a"]


async def test_what_is_heard_is_asked_for_once() -> None:
    """As long as every change is told, an answer is right until it is told of."""
    lookup, clock, feed = FakeIdentityLookup({b"a": RECORD}), FakeClock(), Feed()
    keys = cached(lookup, clock, feed=feed)
    feed.since_s = clock.now_s
    for _ in range(50):
        assert await keys.find(b"a") is RECORD
        assert await keys.find(b"b") is None
        clock.now_s += 1
        feed.until_s = clock.now_s - 0.5
    assert lookup.asked == [b"a", b"b"]
    lookup.records = {b"a": REVOKED, b"b": RECORD}
    feed.tell(b"a")
    feed.tell(b"b")
    assert await keys.find(b"a") is REVOKED
    assert await keys.find(b"b") is RECORD


async def test_silence_ends_trust_after_a_second() -> None:
    """A feed that is not heard vouches for nothing: what was missed meanwhile is asked for."""
    lookup, clock, feed = FakeIdentityLookup({b"a": RECORD}), FakeClock(), Feed()
    keys = cached(lookup, clock, feed=feed)
    feed.since_s = clock.now_s
    await keys.find(b"a")
    feed.until_s = clock.now_s = clock.now_s + 10
    assert await keys.find(b"a") is RECORD
    lookup.records = {b"a": REVOKED}
    clock.now_s += 1.001
    assert await keys.find(b"a") is REVOKED


async def test_a_new_connection_vouches_for_nothing_of_before() -> None:
    """What changed between the two was told to nobody."""
    lookup, clock, feed = FakeIdentityLookup({b"a": RECORD}), FakeClock(), Feed()
    keys = cached(lookup, clock, feed=feed)
    feed.since_s = clock.now_s
    await keys.find(b"a")
    lookup.records = {b"a": REVOKED}
    clock.now_s += 30
    feed.since_s = feed.until_s = clock.now_s
    assert await keys.find(b"a") is REVOKED


async def test_a_change_told_while_it_is_asked_for_is_not_overwritten_by_the_old_answer() -> None:
    """The answer on its way is of before."""
    lookup, clock, feed = FakeIdentityLookup({b"a": RECORD}), FakeClock(), Feed()
    lookup.gate = asyncio.Event()
    keys = cached(lookup, clock, feed=feed)
    feed.since_s = feed.until_s = clock.now_s
    early = asyncio.create_task(keys.find(b"a"))
    await eventually(lambda: len(lookup.asked) == 1)
    lookup.records = {b"a": REVOKED}
    feed.tell(b"a")
    lookup.gate.set()
    assert await early is RECORD
    assert await keys.find(b"a") is REVOKED
