"""`GET /health/metrics`."""

import asyncio

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from plugins.observability.meter import CONTENT_TYPE, PrometheusMeter


def metrics_route(meter: PrometheusMeter) -> HTTPRouteHandler:
    """Public: a scraper has no key. It shows counts, no tenant's data."""

    @get(
        "/health/metrics",
        operation_id="getMetrics",
        summary="Metrics in Prometheus' text format",
        tags=["operations"],
        media_type="text/plain",
        opt={"public": True, "operations": True},
    )
    async def get_metrics() -> Response[bytes]:
        await meter.take_samples()
        return Response(await asyncio.to_thread(meter.exposition), media_type=CONTENT_TYPE)

    return get_metrics
