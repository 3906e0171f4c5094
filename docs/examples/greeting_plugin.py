"""A plugin that greets: a header on every response, and a route. Switch it on with PLUGINS_GREETING_ENABLED=true."""

from collections.abc import Mapping
from typing import Annotated, Self

import msgspec
from litestar import get
from litestar.config.app import AppConfig
from litestar.types import Message, Scope

from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup


class GreetingSettings(msgspec.Struct, frozen=True, kw_only=True):
    word: Annotated[str, msgspec.Meta(pattern="^[a-z]{1,50}$", extra={"form": "a word of up to 50 letters"})] = "hello"
    """How to greet: `PLUGINS_GREETING_WORD`."""


class GreetingPlugin(GatewayPlugin):
    name = "greeting"

    def __init__(self, settings: GreetingSettings) -> None:
        self._word = settings.word

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return (SettingsGroup(cls.name, GreetingSettings, "PLUGINS_GREETING_"),)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(load_settings(GreetingSettings, env, prefix="PLUGINS_GREETING_"))

    def bind(self, capabilities: Capabilities) -> None:
        self._greeted = capabilities.meter.counter("greetings_total", "Responses with a greeting")

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        @get("/greeting", opt={"public": True})
        async def greet() -> dict[str, str]:
            return {"greeting": self._word}

        async def add_header(message: Message, scope: Scope) -> None:
            if message["type"] == "http.response.start":
                self._greeted.add()
                message["headers"] = [*message["headers"], (b"x-greeting", self._word.encode())]

        app_config.route_handlers.append(greet)
        app_config.before_send.append(add_header)
        return app_config
