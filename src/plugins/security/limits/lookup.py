"""Which limits there are, from memory: a change is in force within a second."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from plugins.contract.credentials import limits_handle
from plugins.contract.limits import Limit
from plugins.contract.ports import ChangeFeed, LimitLookup
from plugins.contract.remembered import Remembered
from plugins.security.config import SecuritySettings
from plugins.security.limits.caller import Caller

MAX_TENANTS: Final = 10_000
"""Whose limits are remembered."""


class TenantLimits:
    """Of one tenant, by the id of whom they are for. `callers`: whom the limiter has met, by user and key."""

    __slots__ = ("by_id", "callers")

    def __init__(self, by_id: dict[UUID, Limit]) -> None:
        self.by_id = by_id
        self.callers: dict[tuple[UUID | None, UUID | None], Caller] = {}


class RememberedLimits:
    """The `LimitLookup` port, remembered."""

    def __init__(self, lookup: LimitLookup, feed: ChangeFeed, settings: SecuritySettings) -> None:
        self._lookup = lookup
        self._remembered = Remembered[TenantLimits](
            self._load,
            feed,
            max_age_s=settings.key_cache_max_age_s,
            max_stale_s=settings.key_cache_max_stale_s,
            max_entries=MAX_TENANTS,
            timeout_s=settings.key_lookup_timeout_s,
        )

    async def of(self, tenant_id: UUID) -> TenantLimits:
        """Raises: RetryableError."""
        found = await self._remembered.find(limits_handle(tenant_id))
        assert found is not None, "a tenant without limits has none, and is known"
        return found

    async def close(self) -> None:
        await self._remembered.close()

    async def _load(self, handle: bytes) -> TenantLimits:
        limits = await self._lookup.of(UUID(bytes=handle[1:]))
        return TenantLimits({limit.scope_id: limit for limit in limits})
