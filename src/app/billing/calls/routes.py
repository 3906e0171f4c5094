"""`/api/v1/usage/export`: the calls of some days as a file."""

from datetime import UTC, date, datetime
from typing import Annotated

from litestar import get
from litestar.params import QueryParameter
from litestar.types import ASGIApp

from app.billing.calls.formats import FORMATS, ExportFormat
from app.billing.calls.model import CallFilter
from app.billing.calls.service import ExportService
from app.errors import InvalidRequest
from app.http.download import Download
from app.http.openapi.describe import described
from app.tenancy import tenant_of
from plugins.contract.principal import Principal

Form = Annotated[ExportFormat, QueryParameter(name="format", description="CSV with a header, or an object a line.")]
Since = Annotated[date | None, QueryParameter(description="The first day, UTC: the month's unless said.")]
Until = Annotated[date | None, QueryParameter(description="The last day, UTC, included: today unless said.")]
OfTenant = Annotated[str | None, QueryParameter(name="tenant_id")]


@get(
    "/api/v1/usage/export",
    operation_id="exportUsage",
    tags=["billing"],
    media_type="text/csv",
    opt=described(
        needs="usage:read",
        codes=("not_found", "missing_field"),
        headers=("content-disposition",),
        texts=("application/jsonl",),
    ),
)
async def export_usage(
    principal: Principal,
    exports: ExportService,
    of_tenant: OfTenant = None,
    form: Form = "csv",
    since: Since = None,
    until: Until = None,
) -> ASGIApp:
    """All the tenant's calls of some days, oldest first, as a file. A failure on the way breaks it off."""
    until = until or datetime.now(UTC).date()
    since = since or until.replace(day=1)
    if since > until:
        raise InvalidRequest("since is after until", param="since")
    pieces = exports.lines(tenant_of(principal, of_tenant), CallFilter(since=since, until=until), form)
    return Download(pieces, media_type=FORMATS[form].media_type, filename=f"usage-{since}-{until}.{form}")
