"""Health for probes and people. Public: it says nothing that an outsider could use, and more to operators."""

from litestar import Response, get

from app.http.openapi.describe import described
from app.operations.health.model import Health
from app.operations.health.service import HealthService
from app.operations.listener import OPERATIONS


@get("/health/liveness", operation_id="getLiveness", opt=OPERATIONS, tags=["operations"])
async def get_liveness() -> dict[str, str]:
    """Is the process alive? Asks nobody: restarting us would not mend a database."""
    return {"status": "healthy"}


@get(
    "/health/readiness",
    operation_id="getReadiness",
    opt={**OPERATIONS, **described(also={503: Health})},
    tags=["operations"],
)
async def get_readiness(health: HealthService, by_operator: bool) -> Response[Health]:
    """May requests be sent here? 503 while a critical dependency is away, and from SIGTERM on."""
    report = health.report(for_operator=by_operator)
    return Response(report, status_code=200 if report.is_ready else 503)


@get("/health", operation_id="getHealth", opt=OPERATIONS, tags=["operations"])
async def get_health(health: HealthService, by_operator: bool) -> Health:
    """Every dependency with its state, its response time, and how long ago it was asked.

    Each target by name, too, on the management port and for the administrator.
    """
    return health.report(for_operator=by_operator)
