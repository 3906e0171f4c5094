"""A plugin that greets: a header on every response, and a route. Switch it on with PLUGINS_GREETING_ENABLED=true."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import msgspec
from litestar import Response, get
from litestar.config.app import AppConfig

from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup


class GreetingSettings(msgspec.Struct, frozen=True, kw_only=True):
    word: Annotated[str, msgspec.Meta(min_length=1, max_length=50)] = "hello"
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

        async def add_header(response: Response[Any]) -> Response[Any]:
            self._greeted.add()
            response.headers["x-greeting"] = self._word
            return response

        app_config.route_handlers.append(greet)
        app_config.after_request = add_header
        return app_config
