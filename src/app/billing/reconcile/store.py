"""All SQL of the comparison: the calls that a vendor was sent, by day and target."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

STATEMENT_TIMEOUT = "15min"
"""It reads months of all tenants' calls, for a person at a command line: ten million take some seconds."""

# Nothing was sent for an answer from the cache; one that failed is not billed.
_SENT = """
    SELECT CAST(time AT TIME ZONE 'UTC' AS date) AS day, target, is_estimate OR outcome = 'lost' AS is_estimate,
           count(*) AS requests, coalesce(sum(input_tokens), 0) AS input_tokens,
           coalesce(sum(output_tokens), 0) AS output_tokens, coalesce(sum(cost_nusd), 0) AS cost_nusd,
           count(*) FILTER (WHERE cost_nusd IS NULL) AS unpriced
    FROM calls
    WHERE time >= :begins AND time < :ends
      AND (outcome = 'lost' OR (attempts > 0 AND (is_estimate OR outcome IN ('ok', 'cancelled'))))
"""
_OF_ALL = text(_SENT + " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3")
_OF_TENANT = text(_SENT + " AND tenant_id = :tenant_id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3")


async def sent(session: AsyncSession, tenant_id: UUID | None, begins: datetime, ends: datetime) -> list[dict[str, Any]]:
    """In a tenant's transaction, or the ledger's role's for all of them."""
    await session.execute(text("select set_config('statement_timeout', :limit, true)"), {"limit": STATEMENT_TIMEOUT})
    values = {"begins": begins, "ends": ends}
    if tenant_id is None:
        found = await session.execute(_OF_ALL, values)
    else:
        found = await session.execute(_OF_TENANT, {**values, "tenant_id": tenant_id})
    return [dict(row) for row in found.mappings()]
