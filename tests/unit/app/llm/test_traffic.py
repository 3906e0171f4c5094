"""How targets fare: what is counted of the last minute, and when a target is known to be slow."""

from __future__ import annotations

from app.llm.recent import N_BUCKETS, Recent
from app.llm.traffic import KNOWN_FROM, WINDOW, Fare, Quantiles, Traffic
from unit.plugins.harness import FakeClock


def test_failures_are_of_the_last_minute() -> None:
    """Older ones are forgotten, a second's at a time; calls under way are not counted yet."""
    clock = FakeClock()
    traffic = Traffic(clock)
    for failed in (True, False, False, False):
        traffic.begin("one")
        traffic.end("one", None if failed else 5.0, has_failed=failed)
    traffic.begin("one")
    clock.now_s += 59
    fare = traffic.fare_of("one")
    assert (fare.n_running, fare.n_calls, fare.n_failed) == (1, 4, 1)
    clock.now_s += 1
    assert (traffic.fare_of("one").n_calls, traffic.fare_of("one").n_failed) == (0, 0)


def test_a_window_holds_what_its_buckets_hold() -> None:
    """Whatever was in a bucket a turn ago is gone when it is used again."""
    clock = FakeClock(0.0)
    recent = Recent(bucket_s=10.0, clock=clock)
    for _ in range(3 * N_BUCKETS):
        recent.count()
        recent.mark()
        clock.now_s += 10
    assert recent.sums() == (N_BUCKETS - 1, N_BUCKETS - 1)


def test_quantiles_are_of_streams_and_of_whole_answers() -> None:
    """First tokens are streams' own; totals are of both, once they are over."""
    traffic = Traffic()
    for n in range(1, 101):
        traffic.begin("one")
        traffic.end("one", float(n), total_ms=10.0 * n)
    assert traffic.fare_of("one").first_token_ms == Quantiles(p50=50, p95=95, p99=99)
    assert traffic.fare_of("one").total_ms == Quantiles(p50=500, p95=950, p99=990)
    for _ in range(WINDOW):
        traffic.begin("one")
        traffic.end("one", 3.0, is_whole=True)
    assert traffic.fare_of("one").total_ms == Quantiles(p50=3, p95=3, p99=3)
    assert traffic.fare_of("one").first_token_ms == Quantiles(p50=50, p95=95, p99=99)
    assert traffic.fare_of("two") == Fare()


def test_slow_is_known_after_twenty_answers_of_the_kind() -> None:
    """With fewer a p95 is but the slowest of them; whole answers say nothing of first tokens."""
    traffic = Traffic()
    for n in range(KNOWN_FROM):
        assert traffic.slow_from_ms("one", is_whole=True) is None
        traffic.begin("one")
        traffic.end("one", float(n), is_whole=True)
    assert traffic.slow_from_ms("one", is_whole=True) == KNOWN_FROM - 2
    assert traffic.slow_from_ms("one", is_whole=False) is None
