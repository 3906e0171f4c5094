"""Reading the ledger: calls, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from app.billing import store
from app.billing.calls.model import CallFilter
from app.billing.calls.store import EVERY_CALL, page
from app.billing.store import Grouping
from app.billing.tables import CallRow
from app.database.engine import Database
from app.database.paging import PageRequest, Rows


class UsageService:
    """One tenant's at a time. An entry is there 200 ms after its call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def calls(self, tenant_id: UUID, wanted: PageRequest, which: CallFilter = EVERY_CALL) -> Rows[CallRow]:
        async with self._database.tenant(tenant_id) as session:
            return Rows[CallRow].cut(await page(session, tenant_id, wanted, which), wanted.limit)

    async def summary(self, tenant_id: UUID, by: Sequence[Grouping], since: date, until: date) -> list[dict[str, Any]]:
        """Rows with `by_<grouping>` and the sums. Both days are included."""
        async with self._database.tenant(tenant_id) as session:
            return await store.summary(session, tenant_id, by, since, until)
