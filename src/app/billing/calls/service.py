"""A tenant's calls as a file, made while it is sent: one page is in memory at a time."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from uuid import UUID

from app.billing.calls import store
from app.billing.calls.formats import FORMATS, ExportFormat
from app.billing.calls.model import CallFilter
from app.billing.schemas import UsageOut
from app.database.engine import Database
from app.database.paging import PageRequest, Rows

logger = logging.getLogger("billing")

PAGE_ROWS = 100
"""Read and written at once."""


class ExportService:
    """Each page is a transaction of its own, so that a slow client holds neither a connection nor old rows."""

    def __init__(self, database: Database, *, page_rows: int = PAGE_ROWS) -> None:
        self._database = database
        self._page_rows = page_rows

    async def lines(self, tenant_id: UUID, which: CallFilter, form: ExportFormat) -> AsyncGenerator[bytes]:
        """Pieces of the file, oldest call first. Those that are entered meanwhile may be among them or not.

        Raises: DatabaseUnavailable, also after the first piece.
        """
        out, after = FORMATS[form], None
        head = out.head()
        while True:
            wanted = PageRequest(limit=self._page_rows, after=after, order="asc")
            async with self._database.tenant(tenant_id) as session:
                rows = Rows.cut(await store.page(session, tenant_id, wanted, which), wanted.limit)
            yield head + out.lines([UsageOut.of(row) for row in rows.items])
            if not rows.has_more:
                return
            head, after = b"", rows.items[-1].id
