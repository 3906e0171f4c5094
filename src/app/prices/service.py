"""The rules of prices: a version is set and never changed; and it is handed to the calls of its tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.audit.model import Actor, Change
from app.audit.record import record
from app.database.engine import Database
from app.database.paging import PageRequest, Rows
from app.errors import InvalidRequest, NotFound
from app.ids import new_id
from app.llm.prices import Price
from app.prices import store
from app.prices.model import PriceSchedule, PriceVersion
from plugins.contract.credentials import prices_handle
from plugins.contract.ports import ChangeFeed
from plugins.contract.remembered import Remembered

MAX_TENANTS: Final = 10_000
"""Whose prices are remembered, those who have none too: every call asks."""

MAX_STALE_S: Final = 24 * 3600.0
"""While the database is away. Prices change rarely and are announced days ahead; a call refused is lost."""


def now() -> datetime:
    return datetime.now(UTC)


class PricesService:
    """Also the `TenantPrices` port of the chain: what a tenant pays, from memory."""

    def __init__(self, database: Database, feed: ChangeFeed, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._clock = clock
        self._remembered = Remembered[PriceSchedule](
            self._load, feed, max_age_s=1.0, max_stale_s=MAX_STALE_S, max_entries=MAX_TENANTS, timeout_s=5.0
        )

    async def of(self, tenant_id: UUID) -> Mapping[str, Price]:
        """By target, at this moment. Raises: RetryableError when they cannot be looked up."""
        schedule = await self._remembered.find(prices_handle(tenant_id))
        return schedule.at(self._clock()) if schedule is not None and schedule.has_versions else {}

    async def close(self) -> None:
        await self._remembered.close()

    async def set(
        self, actor: Actor, *, tenant_id: UUID, target: str, price: Price | None, valid_from: datetime | None
    ) -> PriceVersion:
        """In force within a second, or from `valid_from` on. Raises: NotFound; InvalidRequest for the past."""
        moment = self._clock()
        if valid_from is not None and valid_from < moment:
            raise InvalidRequest(
                "valid_from is in the past: what calls have cost is not changed. Leave it out for now",
                param="valid_from",
            )
        async with self._database.tenant(tenant_id) as session:
            if not await store.is_tenant(session, tenant_id):
                raise NotFound("no tenant with this id")
            held = {one.target: one for one in await store.in_force(session, tenant_id, moment)}
            made = await store.add(
                session,
                tenant_id=tenant_id,
                id=new_id(),
                target=target,
                price=price,
                valid_from=valid_from or moment,
            )
            before = _shown(held[target]) if target in held else {}
            change = Change(action="price.set", kind="price", id=made.id, before=before, after=_shown(made))
            await record(session, tenant_id, actor, change)
        self._remembered.forget(prices_handle(tenant_id))  # elsewhere it is told
        return made

    async def in_force(self, tenant_id: UUID) -> Mapping[str, PriceVersion]:
        """By target. Those that say "as everybody" are not among them."""
        async with self._database.tenant(tenant_id) as session:
            found = await store.in_force(session, tenant_id, self._clock())
        return {one.target: one for one in found if one.price is not None}

    async def history(self, tenant_id: UUID, wanted: PageRequest, target: str | None) -> Rows[PriceVersion]:
        async with self._database.tenant(tenant_id) as session:
            return await store.page(session, tenant_id, wanted, target)

    async def _load(self, handle: bytes) -> PriceSchedule:
        tenant_id, moment = UUID(bytes=handle[1:]), self._clock()
        async with self._database.tenant(tenant_id) as session:
            held = await store.in_force(session, tenant_id, moment)
            return PriceSchedule([*held, *await store.to_come(session, tenant_id, moment)])


def _shown(version: PriceVersion) -> dict[str, Any]:
    numbers: dict[str, Any] = msgspec.structs.asdict(version.price) if version.price else {}
    return {"target": version.target, "valid_from": version.valid_from.isoformat(), **numbers}
