"""Wiring of the cache plugin."""

# pyright: reportUnknownMemberType=false
# The lists of Litestar's AppConfig are generic without arguments.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from litestar import Litestar
from litestar.config.app import AppConfig
from msgspec.structs import replace

from plugins.cache.address import address_of
from plugins.cache.config import SETTINGS, CacheSettings, ValkeySettings
from plugins.cache.memory import MemoryCache
from plugins.cache.timed import TimedCache
from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.health import HealthCheck
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup

if TYPE_CHECKING:
    from plugins.cache.shared import ValkeyState


class CachePlugin(GatewayPlugin):
    """Mounts no middleware and no route: whoever can do with an old answer asks the cache.

    It owns the one client of Valkey, too, and gives it as `shared_state`.
    """

    name = "cache"

    def __init__(self, settings: CacheSettings, valkey: ValkeySettings | None = None) -> None:
        self._settings = settings
        self._cache = MemoryCache(max_bytes=settings.max_bytes, max_entry_bytes=settings.max_entry_bytes)
        self._timed = TimedCache(self._cache)
        self._shared = _shared_state(valkey or ValkeySettings(), timeout_s=settings.valkey_timeout_ms / 1000)

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return SETTINGS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(load_settings(CacheSettings, env, prefix="PLUGINS_CACHE_"), load_settings(ValkeySettings, env))

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        capabilities = replace(capabilities, cache=self._timed, cache_state="miss")
        if self._shared is None:
            return capabilities
        # Not critical: whoever shares something knows what to do alone.
        meanwhile = "each process caches in its own memory, and keeps its part of the limits"
        check = HealthCheck(name="valkey", critical=False, probe=self._shared.probe, meanwhile=meanwhile)
        return replace(capabilities, shared_state=self._shared, health_checks=(*capabilities.health_checks, check))

    def bind(self, capabilities: Capabilities) -> None:
        self._cache.observe_with(capabilities.meter)
        self._timed.observe_with(capabilities.slow_log)
        if self._shared is not None:
            self._shared.observe_with(capabilities.meter, capabilities.slow_log)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        @asynccontextmanager
        async def lifespan(_: Litestar) -> AsyncGenerator[None]:
            cleaning = asyncio.create_task(
                self._cache.clean_up(self._settings.cleanup_interval_s), name="cache-clean-up"
            )
            try:
                yield
            finally:
                cleaning.cancel()
                await asyncio.gather(cleaning, return_exceptions=True)
                await self._cache.close()
                if self._shared is not None:
                    await self._shared.close()

        app_config.lifespan.append(lifespan)
        return app_config


def _shared_state(settings: ValkeySettings, *, timeout_s: float) -> ValkeyState | None:
    """Without an address the library is not even imported."""
    if settings.valkey_url is None:
        return None
    from plugins.cache.shared import ValkeyState

    return ValkeyState(address_of(settings.valkey_url), timeout_s=timeout_s)
