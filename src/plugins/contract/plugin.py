"""The one base class of all plugins, built-in and third-party."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar, Self

from litestar.plugins import InitPlugin

from plugins.contract.capabilities import Capabilities
from plugins.contract.settings import SettingsGroup

CONTRACT_VERSION = 1


class GatewayPlugin(InitPlugin, abc.ABC):
    """Four steps, in this order, none with I/O before the lifespan.

    `from_env` parses · `contribute` gives · `bind` takes, after all have given · `on_app_init` (Litestar's) mounts
    middleware, routes and lifespan.
    """

    name: ClassVar[str]
    contract_version: ClassVar[int] = CONTRACT_VERSION

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        """What `from_env` reads, for `wattos settings`. A variable that is nearly one of these is refused at start, and
        so is any other that begins with `PLUGINS_<NAME>_`."""
        return ()

    @classmethod
    @abc.abstractmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Parse this plugin's settings. Raises: SettingsError that names the culprit."""

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        """Return the capabilities with this plugin's parts in place."""
        return capabilities

    def bind(self, capabilities: Capabilities) -> None:
        """Take what others gave. Called once, when `capabilities` is complete."""
