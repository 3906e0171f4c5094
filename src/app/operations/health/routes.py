"""Health for probes and people. Public: it says nothing that an outsider could use."""

from litestar import Response, get

from app.operations.health.model import Health
from app.operations.health.service import HealthService


@get("/health/liveness", operation_id="getLiveness", opt={"public": True}, tags=["operations"])
async def get_liveness() -> dict[str, str]:
    """Is the process alive? Asks nobody: restarting us would not mend a database."""
    return {"status": "healthy"}


@get("/health/readiness", operation_id="getReadiness", opt={"public": True}, tags=["operations"])
async def get_readiness(health: HealthService) -> Response[Health]:
    """May requests be sent here? 503 while a critical dependency is away."""
    report = await health.report()
    return Response(report, status_code=503 if report.status == "unhealthy" else 200)


@get("/health", operation_id="getHealth", opt={"public": True}, tags=["operations"])
async def get_health(health: HealthService) -> Health:
    """Every dependency with its state and response time."""
    return await health.report()
