"""The `Meter` port on prometheus_client: one registry an app, never the library's global one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from plugins.contract.ports import Counter, Gauge, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4"
"""The text exposition that every Prometheus since 0.4 reads; Litestar adds the charset."""

DURATION_BUCKETS_MS: tuple[float, ...] = (
    *(1, 2.5, 5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000),
)
"""From a health check (about 1 ms) to a long streamed answer (minutes), in steps of 2 to 3."""


class _Counter:
    def __init__(self, metric: PrometheusCounter) -> None:
        self.metric = metric

    def add(self, amount: float = 1, /, *labels: str) -> None:
        (self.metric.labels(*labels) if labels else self.metric).inc(amount)


class _Histogram:
    def __init__(self, metric: PrometheusHistogram) -> None:
        self.metric = metric

    def observe(self, value: float, /, *labels: str) -> None:
        (self.metric.labels(*labels) if labels else self.metric).observe(value)


class _Gauge:
    def __init__(self, metric: PrometheusGauge) -> None:
        self.metric = metric

    def set(self, value: float, /, *labels: str) -> None:
        (self.metric.labels(*labels) if labels else self.metric).set(value)


class PrometheusMeter:
    """Instruments by name. Raises: ValueError when a name is asked for again with another kind or other labels."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._instruments: dict[str, _Counter | _Histogram | _Gauge] = {}
        self._shapes: dict[str, tuple[str, tuple[str, ...]]] = {}
        ProcessCollector(registry=self._registry)

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        known = self._known(name, "counter", labels)
        if isinstance(known, _Counter):
            return known
        made = _Counter(PrometheusCounter(name, description, labels, registry=self._registry))
        self._instruments[name] = made
        return made

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Histogram:
        """`buckets` empty: `DURATION_BUCKETS_MS`."""
        known = self._known(name, "histogram", labels)
        if isinstance(known, _Histogram):
            return known
        bounds = buckets or DURATION_BUCKETS_MS
        made = _Histogram(PrometheusHistogram(name, description, labels, registry=self._registry, buckets=bounds))
        self._instruments[name] = made
        return made

    def gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        known = self._known(name, "gauge", labels)
        if isinstance(known, _Gauge):
            return known
        made = _Gauge(PrometheusGauge(name, description, labels, registry=self._registry))
        self._instruments[name] = made
        return made

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format. Takes milliseconds at some thousand series: not for the loop."""
        return generate_latest(_WithoutCreated(self._registry))

    def _known(self, name: str, kind: str, labels: Sequence[str]) -> _Counter | _Histogram | _Gauge | None:
        shape = (kind, tuple(labels))
        if self._shapes.setdefault(name, shape) != shape:
            raise ValueError(f"{name} is already a {self._shapes[name]}, not a {shape}")
        return self._instruments.get(name)


class _WithoutCreated(Collector):
    """Leaves out the `_created` series, which double the output; the library's own switch for it is process-wide."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric
