"""The `Meter` port on prometheus_client: one registry an app, never the library's global one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from plugins.contract.ports import Counter, Gauge, Histogram

logger = logging.getLogger("metrics")

CONTENT_TYPE = "text/plain; version=0.0.4"
"""The text exposition that every Prometheus since 0.4 reads; Litestar adds the charset."""

DURATION_BUCKETS_MS: tuple[float, ...] = (
    *(1, 2.5, 5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000),
)
"""From a health check (about 1 ms) to a long streamed answer (minutes), in steps of 2 to 3."""

SAMPLE_MAX_AGE_S = 1.0
"""Sources are asked at most this often, however many read the metrics."""

SAMPLE_TIMEOUT_S = 1.0
"""For all sources together: a scraper waits for 10 s by default, and a database that is away takes longer."""

Kind = Literal["counter", "histogram", "gauge"]
M = TypeVar("M", PrometheusCounter, PrometheusHistogram, PrometheusGauge)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument, as docs/metrics.md lists it. `name` is the one in the exposition."""

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


class _Instrument(Generic[M]):
    """A metric, and its children by label values: the library's own look-up takes a lock and 1 µs."""

    def __init__(self, metric: M, n_labels: int) -> None:
        self._metric: M = metric
        self._children: dict[tuple[str, ...], M] = {} if n_labels else {(): metric}

    def child(self, labels: tuple[str, ...]) -> M:
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = self._metric.labels(*labels)
        return found


class _Counter(_Instrument[PrometheusCounter]):
    def add(self, amount: float = 1, /, *labels: str) -> None:
        self.child(labels).inc(amount)


class _Histogram(_Instrument[PrometheusHistogram]):
    def observe(self, value: float, /, *labels: str) -> None:
        self.child(labels).observe(value)


class _Gauge(_Instrument[PrometheusGauge]):
    def set(self, value: float, /, *labels: str) -> None:
        self.child(labels).set(value)


class PrometheusMeter:
    """Instruments by name. Raises: ValueError when a name is asked for again with another kind or other labels."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._instruments: dict[str, _Counter | _Histogram | _Gauge] = {}
        self._described: dict[str, Described] = {}
        self._sources: list[Callable[[], Awaitable[None]]] = []
        self._sampled_at_s = -SAMPLE_MAX_AGE_S
        self._sampling: asyncio.Task[None] | None = None
        ProcessCollector(registry=self._registry)

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        known = self._known(name, "counter", description, labels)
        if isinstance(known, _Counter):
            return known
        made = _Counter(PrometheusCounter(name, description, labels, registry=self._registry), len(labels))
        self._instruments[name] = made
        return made

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Histogram:
        """`buckets` empty: `DURATION_BUCKETS_MS`."""
        bounds = tuple(buckets) or DURATION_BUCKETS_MS
        known = self._known(name, "histogram", description, labels, bounds)
        if isinstance(known, _Histogram):
            return known
        metric = PrometheusHistogram(name, description, labels, registry=self._registry, buckets=bounds)
        made = self._instruments[name] = _Histogram(metric, len(labels))
        return made

    def gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        known = self._known(name, "gauge", description, labels)
        if isinstance(known, _Gauge):
            return known
        made = _Gauge(PrometheusGauge(name, description, labels, registry=self._registry), len(labels))
        self._instruments[name] = made
        return made

    def sample(self, source: Callable[[], Awaitable[None]]) -> None:
        self._sources.append(source)

    def instruments(self) -> list[Described]:
        """All that were asked for, in that order."""
        return [*self._described.values()]

    async def take_samples(self) -> None:
        """Ask the sources, unless they were asked within a second. Who comes meanwhile waits for the same answer."""
        if self._sampling is None:
            if time.monotonic() - self._sampled_at_s < SAMPLE_MAX_AGE_S:
                return
            self._sampling = asyncio.create_task(self._ask_sources(), name="metrics-samples")
        # What is given up may take its time to end: a query of a frozen database 10 s (psycopg's own cancellation).
        await asyncio.wait([self._sampling], timeout=SAMPLE_TIMEOUT_S)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format. Takes milliseconds at some thousand series: not for the loop."""
        return generate_latest(_WithoutCreated(self._registry))

    async def _ask_sources(self) -> None:
        try:
            async with asyncio.timeout(SAMPLE_TIMEOUT_S):
                results = await asyncio.gather(*(source() for source in self._sources), return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    logger.warning("a source of gauges failed", exc_info=result)
        except TimeoutError:
            logger.warning("sources of gauges did not answer within %g s", SAMPLE_TIMEOUT_S)
        finally:
            self._sampled_at_s = time.monotonic()
            self._sampling = None

    def _known(
        self, name: str, kind: Kind, description: str, labels: Sequence[str], buckets: tuple[float, ...] = ()
    ) -> _Counter | _Histogram | _Gauge | None:
        # The client library appends it to counters: `llm_cost_usd` is `llm_cost_usd_total` to whoever reads.
        shown = f"{name.removesuffix('_total')}_total" if kind == "counter" else name
        asked = Described(name=shown, kind=kind, description=description, labels=tuple(labels), buckets=buckets)
        known = self._described.setdefault(name, asked)
        if (known.kind, known.labels) != (kind, asked.labels):
            raise ValueError(f"{name} is already a {known.kind} of {known.labels}, not a {kind} of {asked.labels}")
        return self._instruments.get(name)


class _WithoutCreated(Collector):
    """Leaves out the `_created` series, which double the output; the library's own switch for it is process-wide."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric
