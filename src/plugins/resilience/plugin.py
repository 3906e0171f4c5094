"""Wiring of the resilience plugin."""

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

from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup
from plugins.resilience.config import SETTINGS, ProtectionSettings, ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from plugins.resilience.lag import LoopLag
from plugins.resilience.sharing import Sharing
from plugins.resilience.shedding import Shedding


class ResiliencePlugin(GatewayPlugin):
    """Whoever calls a dependency asks the guard. Its middleware refuses model calls when there are too many."""

    name = "resilience"

    def __init__(self, settings: ResilienceSettings, protection: ProtectionSettings | None = None) -> None:
        protection = protection or ProtectionSettings()
        retry = replace(settings.retry, budget_ratio=protection.retry_budget_percent / 100)
        self._guard = ResilientGuard(settings.breaker, retry)
        self._lag = LoopLag()
        self._shedding = Shedding(protection, self._lag)
        self._sharing: Sharing | None = None

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return SETTINGS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(
            load_settings(ResilienceSettings, env), load_settings(ProtectionSettings, env, prefix="PLUGINS_RESILIENCE_")
        )

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        return replace(capabilities, guard=self._guard, breakers=self._guard.circuits)

    def bind(self, capabilities: Capabilities) -> None:
        self._guard.observe_with(capabilities.meter)
        self._shedding.observe_with(capabilities.meter)
        if capabilities.shared_state is not None:
            self._sharing = Sharing(self._guard.circuits, capabilities.shared_state)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        @asynccontextmanager
        async def lifespan(_: Litestar) -> AsyncGenerator[None]:
            tasks = [asyncio.create_task(self._lag.watch(), name="resilience-lag")]
            if self._sharing is not None:
                tasks.append(asyncio.create_task(self._sharing.watch(), name="resilience-sharing"))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        app_config.middleware.append(self._shedding.around)
        app_config.lifespan.append(lifespan)
        return app_config
