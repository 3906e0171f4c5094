"""What credentials stand for, from memory; and when each key was last used, told now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from uuid import UUID

from plugins.contract.errors import WattosError
from plugins.contract.ports import ChangeFeed, IdentityLookup
from plugins.contract.principal import Identity
from plugins.contract.remembered import Remembered
from plugins.security.config import SecuritySettings

logger = logging.getLogger("security")

TELL_USES_EVERY_S = 30.0
"""A key's `last_used_at` is that much behind; one statement for all keys of that time."""


class Identities(Remembered[Identity]):
    """The `IdentityLookup` port, remembered."""

    def __init__(self, lookup: IdentityLookup, feed: ChangeFeed, settings: SecuritySettings) -> None:
        super().__init__(
            lookup.find,
            feed,
            max_age_s=settings.key_cache_max_age_s,
            max_stale_s=settings.key_cache_max_stale_s,
            max_entries=settings.key_cache_max_entries,
            timeout_s=settings.key_lookup_timeout_s,
        )
        self._lookup = lookup
        self.uses: dict[UUID, float] = {}
        """Keys used since they were last told of, with the time: epoch seconds."""

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """While open, uses are told; the last ones as it closes."""
        telling = asyncio.create_task(self._tell_for_ever(), name="key-uses")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await self.tell_uses()
            await self.close()

    async def tell_uses(self) -> None:
        """What could not be told is told the next time."""
        uses, self.uses = self.uses, {}
        if not uses:
            return
        try:
            await self._lookup.used(uses)
        except WattosError as exc:
            self.uses = {**uses, **self.uses}
            logger.warning("when keys were last used cannot be noted: %s", exc.message)

    async def _tell_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TELL_USES_EVERY_S)
            await self.tell_uses()
