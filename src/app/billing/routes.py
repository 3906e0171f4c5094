"""`/api/v1/usage`: what was called, and what it cost."""

from datetime import UTC, date, datetime
from typing import Annotated, cast, get_args

from litestar import get
from litestar.params import QueryParameter

from app.billing.calls.model import CallFilter
from app.billing.model import Outcome
from app.billing.schemas import UsageGroup, UsageOut, UsageSummary
from app.billing.service import UsageService
from app.billing.store import Grouping
from app.database.paging import DEFAULT_LIMIT, PageRequest
from app.errors import InvalidRequest
from app.http.openapi.describe import described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.tenancy import tenant_of
from plugins.contract.principal import Principal

GROUPINGS: tuple[str, ...] = get_args(Grouping)

Since = Annotated[date | None, QueryParameter(description="The first day, UTC.")]
Until = Annotated[date | None, QueryParameter(description="The last day, UTC, included.")]
SummedSince = Annotated[date | None, QueryParameter(description="The first day, UTC: the month's unless said.")]
SummedUntil = Annotated[date | None, QueryParameter(description="The last day, UTC, included: today unless said.")]
OfTenant = Annotated[str | None, QueryParameter(name="tenant_id")]
OfModel = Annotated[str | None, QueryParameter(description="Calls of this alias only.")]
OfOutcome = Annotated[Outcome | None, QueryParameter(description="Calls that ended so only.")]
OfKey = Annotated[str | None, QueryParameter(description="Calls with this key only.")]


@get(
    "/api/v1/usage",
    operation_id="listUsage",
    tags=["billing"],
    opt=described(needs="usage:read", codes=("not_found",)),
)
async def list_usage(
    principal: Principal,
    usage: UsageService,
    of_tenant: OfTenant = None,
    since: Since = None,
    until: Until = None,
    model: OfModel = None,
    outcome: OfOutcome = None,
    key_id: OfKey = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[UsageOut]:
    """The tenant's calls, newest first, each once it is over: 200 ms later at most.

    Of calls that were entered before the first page, pages show each once, whatever is entered meanwhile.
    """
    seen = decode_id("call", after) if after else None
    key = decode_id("key", key_id) if key_id else None
    which = CallFilter(since=since, until=until, model=model, outcome=outcome, key_id=key)
    rows = await usage.calls(tenant_of(principal, of_tenant), PageRequest(limit=limit, after=seen), which)
    shown = [UsageOut.of(row) for row in rows.items]
    return page(shown, [one.id for one in shown], has_more=rows.has_more)


@get(
    "/api/v1/usage/summary",
    operation_id="summarizeUsage",
    tags=["billing"],
    opt=described(needs="usage:read", codes=("not_found",)),
)
async def summarize_usage(
    principal: Principal,
    usage: UsageService,
    of_tenant: OfTenant = None,
    group_by: Annotated[str, QueryParameter(description=f"Of {', '.join(GROUPINGS)}: several with commas.")] = "model",
    since: SummedSince = None,
    until: SummedUntil = None,
) -> UsageSummary:
    """The tenant's calls, added up: of this month (UTC) unless said."""
    by = group_by.split(",")
    if set(by) - set(GROUPINGS) or len(set(by)) != len(by):
        raise InvalidRequest(f"group_by is one or more of {', '.join(GROUPINGS)}, each once", param="group_by")
    until = until or datetime.now(UTC).date()
    since = since or until.replace(day=1)
    if since > until:
        raise InvalidRequest("since is after until", param="since")
    groups = cast("list[Grouping]", by)
    rows = await usage.summary(tenant_of(principal, of_tenant), groups, since, until)
    return UsageSummary(since=since, until=until, group_by=groups, data=[UsageGroup.of(row) for row in rows])
