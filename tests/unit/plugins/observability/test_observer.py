"""The observer itself: its metrics, and that it is never in the way."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from httpx import ASGITransport, AsyncClient
from litestar.types import Receive, Scope, Send

from plugins.contract.nulls import NullMeter, NullSlowLog
from plugins.contract.ports import Counter
from plugins.observability.asgi import RequestObserver
from plugins.observability.config import LogSettings, ObservabilitySettings
from plugins.observability.plugin import ObservabilityPlugin
from plugins.observability.requests import RequestReport
from unit.plugins.harness import build, serving
from unit.plugins.observability.observed_app import HANDLERS, observed


class BrokenMeter(NullMeter):
    """Every instrument fails when used."""

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        return self

    def add(self, amount: float = 1, /, *labels: str) -> None:
        raise RuntimeError("no")


async def test_a_broken_observer_breaks_no_request() -> None:
    """Whatever fails inside, the caller gets the answer and its id."""
    observer = RequestObserver(RequestReport(BrokenMeter(), NullSlowLog()))

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": False})

    async with AsyncClient(transport=ASGITransport(observer.around(inner)), base_url="http://t") as client:  # type: ignore[arg-type]
        answer = await client.get("/", headers={"x-request-id": "a"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "a")


async def test_two_apps_count_apart_and_leave_no_wrapper_behind() -> None:
    """Each app has its registry; after its lifespan an app is as it was."""
    plugins = [ObservabilityPlugin(ObservabilitySettings(), LogSettings(), stream=io.StringIO()) for _ in range(2)]
    one, two = (build([plugin], HANDLERS) for plugin in plugins)
    handler = one.asgi_handler
    async with serving(one) as client, serving(two) as other:
        await client.get("/items/1")
        assert "/items/{item}" in (await client.get("/health/metrics")).text
        assert "/items/{item}" not in (await other.get("/health/metrics")).text
    assert one.asgi_handler is handler


@pytest.mark.requirement("OBS-4")
async def test_metrics_are_prometheus_text_with_percentiles_in_reach() -> None:
    """Counters, a histogram in ms, the process's own; no `_created` series."""
    async with observed() as app:
        await app.client.get("/items/7")
        answer = await app.client.get("/health/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE http_requests_total counter" in answer.text
    assert "# TYPE http_request_duration_ms histogram" in answer.text
    assert 'http_request_duration_ms_bucket{le="+Inf",method="GET",route="/items/{item}"} 1.0' in answer.text
    assert "process_resident_memory_bytes" in answer.text
    assert "_created" not in answer.text
