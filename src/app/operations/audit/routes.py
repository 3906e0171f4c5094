"""`/api/v1/audit-events`: who changed what, when, from where."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from app.audit.model import PLATFORM_CHAIN
from app.database.paging import DEFAULT_LIMIT
from app.errors import InvalidRequest
from app.http.openapi.describe import described
from app.http.pages import Limit, Page, page
from app.ids import decode_id
from app.operations.audit.schemas import ACTIONS, AuditEventOut
from app.operations.audit.service import AuditService
from app.tenancy import tenant_of
from plugins.contract.principal import Principal


@get(
    "/api/v1/audit-events",
    operation_id="listAuditEvents",
    tags=["operations"],
    opt=described(needs="audit:read", codes=("not_found",)),
)
async def list_audit_events(
    principal: Principal,
    audit: AuditService,
    of_tenant: Annotated[str | None, QueryParameter(name="tenant_id")] = None,
    action: str | None = None,
    limit: Limit = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[AuditEventOut]:
    """The tenant's events, newest first; without a tenant, the platform's own for its administrator."""
    if action is not None and action not in ACTIONS:
        raise InvalidRequest(f"action is one of {', '.join(sorted(ACTIONS))}", param="action")
    is_platforms = of_tenant is None and principal.tenant_id is None
    rows = await audit.events(
        PLATFORM_CHAIN if is_platforms else tenant_of(principal, of_tenant),
        limit=limit,
        after=decode_id("evt", after) if after else None,
        action=action,
    )
    shown = [AuditEventOut.of(event) for event in rows.items]
    return page(shown, [event.id for event in shown], has_more=rows.has_more)
