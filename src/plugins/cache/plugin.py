"""Wiring of the cache plugin."""

# pyright: reportUnknownMemberType=false
# The lists of Litestar's AppConfig are generic without arguments.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Self

from litestar import Litestar
from litestar.config.app import AppConfig
from msgspec.structs import replace

from plugins.cache.config import SETTINGS, CacheSettings
from plugins.cache.memory import MemoryCache
from plugins.cache.timed import TimedCache
from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup


class CachePlugin(GatewayPlugin):
    """Mounts no middleware and no route: whoever can do with an old answer asks the cache."""

    name = "cache"

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._cache = MemoryCache(max_bytes=settings.max_bytes, max_entry_bytes=settings.max_entry_bytes)
        self._timed = TimedCache(self._cache)

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return SETTINGS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(load_settings(CacheSettings, env, prefix="PLUGINS_CACHE_"))

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        return replace(capabilities, cache=self._timed, cache_state="miss")

    def bind(self, capabilities: Capabilities) -> None:
        self._cache.observe_with(capabilities.meter)
        self._timed.observe_with(capabilities.slow_log)

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

        app_config.lifespan.append(lifespan)
        return app_config
