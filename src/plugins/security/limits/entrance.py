"""The limiter as the plugin has it: given before its parts are known, alive while the process serves."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from plugins.contract.capabilities import Capabilities
from plugins.contract.ports import Slot
from plugins.security.config import SecuritySettings
from plugins.security.limits.exchange import Exchange
from plugins.security.limits.leases import Leases
from plugins.security.limits.limiter import Limiter
from plugins.security.limits.lookup import RememberedLimits

logger = logging.getLogger("security")


class Limits:
    """The `CallLimits` port."""

    def __init__(self, settings: SecuritySettings, *, is_sharing_expected: bool = False) -> None:
        """`is_sharing_expected`: VALKEY_URL is set."""
        self._settings = settings
        self._is_sharing_expected = is_sharing_expected
        self.bind(Capabilities())

    def bind(self, capabilities: Capabilities) -> None:
        self._shared = capabilities.shared_state
        self._lookup = RememberedLimits(capabilities.limit_lookup, capabilities.change_feed, self._settings)
        exchange = None if self._shared is None else Exchange(self._shared)
        self._leases = Leases(exchange, n_replicas=self._settings.replicas)
        self.limiter = Limiter(
            self._lookup, self._leases, address_requests_per_minute=self._settings.address_requests_per_minute
        )
        self.limiter.observe_with(capabilities.meter)

    async def admit(self, *, tenant_id: UUID | None, user_id: UUID | None, key_id: UUID | None, n_tokens: int) -> Slot:
        return await self.limiter.admit(tenant_id=tenant_id, user_id=user_id, key_id=key_id, n_tokens=n_tokens)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """While open, shares are exchanged; they are given back as it closes."""
        if self._shared is None and self._is_sharing_expected:
            logger.warning(
                "VALKEY_URL is set, and the cache plugin, which connects to it, is off: each replica has 1/%d of every"
                " limit (PLUGINS_SECURITY_REPLICAS)",
                self._settings.replicas,
            )
        self._leases.start()
        try:
            await self._leases.started()
            yield
        finally:
            await self._leases.stop()
            await self._lookup.close()
