"""A share on its own: the window's exactness, corrections, slots, and the arithmetic of headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.contract.limits import LimitState, rate_headers
from plugins.security.limits.addresses import subject_of
from plugins.security.limits.caller import Caller
from plugins.security.limits.share import KEPT_S, Share, Slots, Tally

pytestmark = pytest.mark.requirement("SEC-1")

REQUESTS, CALLS = Tally("requests", "key"), Tally("concurrency", "key")


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.integers(1, 5)), max_size=80),
)
def test_no_sixty_seconds_hold_more_than_the_share(limit: int, steps: list[tuple[float, int]]) -> None:
    """Wherever the window begins. And what is counted is what was taken within it, and at most 1.25 s before."""
    share, now_s = Share("k", limit, REQUESTS, share=limit), 1_000.0
    taken: list[tuple[float, int]] = []
    for pause_s, units in steps:
        now_s += pause_s
        if share.room(now_s) >= units:
            share.take(units, now_s)
            taken.append((now_s, units))
        assert share.used <= share.share
        assert sum(n for at_s, n in taken if at_s > now_s - 60) <= share.used
        assert share.used <= sum(n for at_s, n in taken if at_s > now_s - KEPT_S)
    for begins_s, _ in taken:
        assert sum(n for at_s, n in taken if begins_s <= at_s < begins_s + 60) <= limit


def test_room_comes_back_when_a_window_is_over() -> None:
    """Not a moment earlier than 60 s after the last one of its second."""
    share = Share("k", 2, REQUESTS, share=2)
    share.take(1, 1_000.9)
    share.take(1, 1_002.0)
    assert share.room(1_060.95) == 0
    assert share.room_in_s(1, 1_060.95) == pytest.approx(0.3)
    assert share.room_in_s(2, 1_060.95) == pytest.approx(2.3)
    assert share.room(1_061.25) == 1
    assert share.room_in_s(3, 1_061.25) is None
    assert share.reset_s(1_061.25) == pytest.approx(2.0)


def test_tokens_are_corrected_where_they_were_taken() -> None:
    """Less is given back as long as it counts; more counts, even beyond the share; what is over is over."""
    share = Share("k", 100, Tally("tokens", "key"), share=100)
    first, second = share.take(60, 1_000.0), share.take(40, 1_010.0)
    share.correct(first, -50, 1_011.0)
    assert share.room(1_011.0) == 50
    share.correct(second, 90, 1_011.0)
    assert share.room(1_011.0) == -40
    assert share.held == 140
    assert share.room(1_062.0) == -30
    share.correct(first, 1_000, 1_062.0)
    assert share.room(1_062.0) == -30
    assert share.room(1_072.0) == 100


@given(st.lists(st.booleans(), max_size=50))
def test_slots_are_those_in_use(steps: list[bool]) -> None:
    """No window: what ends is free at once."""
    share, in_use = Slots("k", 3, CALLS, share=3), 0
    for begins in steps:
        if begins and share.room(1_000.0) >= 1:
            share.take(1, 1_000.0)
            in_use += 1
        elif not begins and in_use:
            share.give_back()
            in_use -= 1
        assert share.used == in_use <= 3
    assert share.room_in_s(1, 1_000.0) is None


def test_the_cushion_shrinks_with_the_pool() -> None:
    """So the last units are used, whoever needs them; and it is none while others go short."""
    share = Share("k", 600, REQUESTS)
    cushions = []
    for pool in (600, 300, 60, 15, 3, 0):
        share.pool = pool
        cushions.append(share.cushion(2))
    assert cushions == [75, 37, 7, 1, 0, 0]
    share.pool, share.unmet_elsewhere = 600, 1
    assert share.cushion(2) == 0


@pytest.mark.parametrize(("pool", "lent"), [(10, 1), (4, 1), (3, 0), (0, 0)])
def test_small_limits_are_lent_one_by_one(pool: int, lent: int) -> None:
    """Of a limit of ten, two replicas never keep more than one unit each that they do not need."""
    share = Share("k", 10, REQUESTS)
    share.pool = pool
    assert share.cushion(2) == lent


def test_slots_remember_how_many_were_in_use() -> None:
    """Should Valkey go in a quiet moment, as many may begin again."""
    share = Slots("k", 100, CALLS, share=8)
    for _ in range(8):
        share.take(1, 1_000.0)
    for _ in range(8):
        share.give_back()
    assert share.cushion(2) == 8
    share.note_peak(1_061.0)
    assert share.cushion(2) == 8
    share.note_peak(1_122.0)
    assert share.cushion(2) == 1


def test_headers_are_written_as_openais() -> None:
    """Times too."""
    states = [
        LimitState("requests", 1_000, 3, 61.1),
        LimitState("tokens", 5_000, 0, 0.0),
    ]
    assert rate_headers(states) == {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "1m2s",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "0s",
    }
    assert rate_headers([]) == {}
    assert rate_headers([LimitState("tokens", 1, 1, 12.0)])["x-ratelimit-reset-tokens"] == "12s"


def test_of_several_limits_the_one_with_the_least_left_is_told() -> None:
    """It is the one that refuses next; below nothing there is nothing."""
    wide, narrow = Share("w", 600, REQUESTS, share=600), Share("n", 100, REQUESTS, share=10)
    tokens = Share("t", 5_000, Tally("tokens", "key"), share=100)
    tokens.correct(tokens.take(100, 1_000.0), 7, 1_000.0)
    assert Caller((wide, narrow), (tokens,), ()).states(1_000.0) == (
        LimitState("requests", 100, 10, 0.0),
        LimitState("tokens", 5_000, 0, 61.25),
    )
    narrow.pool = 90
    wide.take(550, 1_000.0)
    assert Caller((wide, narrow), (), ()).states(1_000.0)[0] == LimitState("requests", 600, 50, 61.25)


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_its_customers(address: str, subject: str) -> None:
    """One who has a /64 has 2^64 addresses."""
    assert subject_of(address) == subject
