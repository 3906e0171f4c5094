"""What every `Meter` keeps, the null one and the tests' own included. A new one is one more row of `METERS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Meter
from plugins.observability.meter import SAMPLE_TIMEOUT_S, PrometheusMeter
from unit.plugins.harness import RecordingMeter

METERS: dict[str, Callable[[], Meter]] = {
    "null": NullMeter,
    "prometheus": PrometheusMeter,
    "recording": RecordingMeter,
}


@pytest.fixture(params=METERS.values(), ids=METERS)
def meter(request: pytest.FixtureRequest) -> Meter:
    made: Meter = request.param()
    return made


def test_instruments_take_labels_in_the_order_of_their_names(meter: Meter) -> None:
    """With labels and without."""
    meter.counter("calls_total", "Calls.", ("model", "outcome")).add(1, "m", "ok")
    meter.counter("bare_total", "Bare.").add()
    meter.histogram("duration_ms", "Duration.", ("model",)).observe(12.5, "m")
    meter.histogram("sizes_bytes", "Sizes.", buckets=(1, 2, 3)).observe(2)


async def test_gauges_and_their_sources_are_taken(meter: Meter) -> None:
    """What is only known when somebody asks is set by a source; a meter that nobody reads never asks it."""
    gauge = meter.gauge("depth", "Depth.", ("state",))
    gauge.set(3, "waiting")
    gauge.set(-1.5, "waiting")
    assert meter.gauge("depth", "Depth.", ("state",)) is gauge

    async def source() -> None:
        gauge.set(7, "waiting")

    meter.sample(source)


def test_asking_twice_for_a_name_gives_the_same_instrument(meter: Meter) -> None:
    """Two plugins may count the same thing."""
    assert meter.counter("calls_total", "Calls.", ("m",)) is meter.counter("calls_total", "Calls.", ("m",))
    assert meter.histogram("duration_ms", "Duration.") is meter.histogram("duration_ms", "Duration.")


def test_instruments_may_be_used_from_any_thread(meter: Meter) -> None:
    """Ingestion counts from workers."""
    counter = meter.counter("calls_total", "Calls.", ("m",))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: counter.add(1, "a"), range(100)))


def test_the_exposition_holds_what_was_counted() -> None:
    """Names as given: a counter ends in `_total` once, whether its name did or not."""
    meter = PrometheusMeter()
    meter.counter("llm_cost_usd", "Dollars.", ("model",)).add(0.5, "m")
    meter.counter("calls_total", "Calls.").add(2)
    meter.histogram("duration_ms", "Duration.", buckets=(10, 20)).observe(15)
    rows = meter.exposition().decode().splitlines()
    assert 'llm_cost_usd_total{model="m"} 0.5' in rows
    assert "calls_total 2.0" in rows
    assert 'duration_ms_bucket{le="10.0"} 0.0' in rows
    assert 'duration_ms_bucket{le="20.0"} 1.0' in rows


def test_a_name_cannot_become_something_else() -> None:
    """Another kind or other labels under one name is a mistake, said at once."""
    meter = PrometheusMeter()
    meter.counter("calls_total", "Calls.", ("m",))
    with pytest.raises(ValueError, match="calls_total is already"):
        meter.counter("calls_total", "Calls.", ("other",))
    with pytest.raises(ValueError, match="calls_total is already"):
        meter.histogram("calls_total", "Calls.", ("m",))


async def test_sources_are_asked_when_samples_are_taken() -> None:
    """At most once a second, all who read at once together; one that fails or hangs spoils nothing but its own."""
    meter = PrometheusMeter()
    depth = meter.gauge("depth", "Depth.")
    asked = 0

    async def source() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        depth.set(7)

    async def failing() -> None:
        raise RuntimeError("away")

    async def hanging() -> None:
        await asyncio.Event().wait()

    for one in (source, failing, hanging):
        meter.sample(one)
    await asyncio.gather(*(meter.take_samples() for _ in range(5)))
    await meter.take_samples()
    assert asked == 1
    assert "depth 7.0" in meter.exposition().decode().splitlines()


def test_meters_share_nothing() -> None:
    """Two apps in one process count apart."""
    one, other = PrometheusMeter(), PrometheusMeter()
    one.counter("calls_total", "Calls.").add()
    other.counter("calls_total", "Calls.")
    assert "calls_total 0.0" in other.exposition().decode().splitlines()


async def test_a_source_that_does_not_end_keeps_no_reader_waiting() -> None:
    """Given up after a second it may take longer to end: until then it is not asked again, and metrics are read."""
    meter, asked, may_end = PrometheusMeter(), 0, asyncio.Event()

    async def frozen() -> None:
        nonlocal asked
        asked += 1
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    meter.sample(frozen)
    began_s = asyncio.get_running_loop().time()
    for _ in range(2):
        await meter.take_samples()
    assert asyncio.get_running_loop().time() - began_s < 4 * SAMPLE_TIMEOUT_S
    assert asked == 1
    may_end.set()
    await meter.take_samples()
