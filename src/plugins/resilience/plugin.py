"""Wiring of the resilience plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from msgspec.structs import replace

from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup
from plugins.resilience.config import SETTINGS, ProtectionSettings, ResilienceSettings
from plugins.resilience.guard import ResilientGuard


class ResiliencePlugin(GatewayPlugin):
    """Mounts no middleware and no route: whoever calls a dependency asks the guard."""

    name = "resilience"

    def __init__(self, settings: ResilienceSettings, protection: ProtectionSettings | None = None) -> None:
        protection = protection or ProtectionSettings()
        retry = replace(settings.retry, budget_ratio=protection.retry_budget_percent / 100)
        self._guard = ResilientGuard(settings.breaker, retry)

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
