"""Wiring of the cache plugin."""

# pyright: reportUnknownMemberType=false
# The lists of Litestar's AppConfig are generic without arguments.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

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
    from plugins.cache.layered import LayeredCache
    from plugins.cache.shared import ValkeyState


class CachePlugin(GatewayPlugin):
    """Mounts no middleware and no route: whoever can do with an old answer asks the cache.

    It owns the clients of Valkey, too, and gives one as `shared_state`.
    """

    name = "cache"

    def __init__(self, settings: CacheSettings, valkey: ValkeySettings | None = None) -> None:
        self._settings = settings
        self._memory = MemoryCache(max_bytes=settings.max_bytes, max_entry_bytes=settings.max_entry_bytes)
        url = None if valkey is None else valkey.valkey_url
        self._beyond = None if url is None else _beyond(self._memory, settings, url)
        self._timed = TimedCache(self._memory if self._beyond is None else self._beyond.cache)

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return SETTINGS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(load_settings(CacheSettings, env, prefix="PLUGINS_CACHE_"), load_settings(ValkeySettings, env))

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        capabilities = replace(capabilities, cache=self._timed, cache_state="miss")
        if self._beyond is None:
            return capabilities
        # Not critical: whoever shares something knows what to do alone.
        meanwhile = "each process caches in its own memory, and keeps its part of the limits"
        probe = self._beyond.state.probe
        check = HealthCheck(name="valkey", critical=False, probe=probe, breaker="valkey", meanwhile=meanwhile)
        checks = (*capabilities.health_checks, check)
        return replace(capabilities, shared_state=self._beyond.state, health_checks=checks)

    def bind(self, capabilities: Capabilities) -> None:
        self._timed.observe_with(capabilities.slow_log)
        if self._beyond is None:
            self._memory.observe_with(capabilities.meter)
        else:
            self._beyond.state.observe_with(capabilities.meter, capabilities.slow_log)
            self._beyond.cache.observe_with(capabilities.meter, capabilities.slow_log, capabilities.guard)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        @asynccontextmanager
        async def lifespan(_: Litestar) -> AsyncGenerator[None]:
            cleaning = self._memory.clean_up(self._settings.cleanup_interval_s)
            tasks = [asyncio.create_task(cleaning, name="cache-clean-up")]
            if self._beyond is not None:
                tasks.append(asyncio.create_task(self._beyond.cache.keep_up(), name="cache-beat"))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._memory.close()
                if self._beyond is not None:
                    await self._beyond.cache.close()
                    await self._beyond.state.close()

        app_config.lifespan.append(lifespan)
        return app_config


class _Beyond(NamedTuple):
    """What there is with a Valkey."""

    state: ValkeyState
    cache: LayeredCache


def _beyond(memory: MemoryCache, settings: CacheSettings, url: str) -> _Beyond:
    """Without an address the library is not even imported."""
    from plugins.cache.layered import LayeredCache
    from plugins.cache.shared import ValkeyState
    from plugins.cache.valkey_level import ValkeyLevel

    address, timeout_s = address_of(url), settings.valkey_timeout_ms / 1000
    level = ValkeyLevel(
        address,
        timeout_s=timeout_s,
        max_entry_bytes=settings.max_entry_bytes,
        compress_above_bytes=settings.compress_above_bytes,
    )
    return _Beyond(ValkeyState(address, timeout_s=timeout_s), LayeredCache(memory, level))
