"""Wiring of the observability plugin."""

# pyright: reportUnknownMemberType=false
# The lists of Litestar's AppConfig are generic without arguments.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Self, TextIO

from litestar import Litestar
from litestar.config.app import AppConfig
from msgspec.structs import replace

from plugins.contract.capabilities import Capabilities
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.principal import Principal
from plugins.contract.settings import SettingsGroup
from plugins.observability.asgi import RequestObserver
from plugins.observability.config import SETTINGS, LogSettings, ObservabilitySettings, load
from plugins.observability.logs import LogOutput
from plugins.observability.meter import PrometheusMeter
from plugins.observability.pino import python_level
from plugins.observability.process import LoopLag, say_build
from plugins.observability.requests import RequestReport
from plugins.observability.routes import metrics_route
from plugins.observability.slow import SlowOperations


class ObservabilityPlugin(GatewayPlugin):
    """Mounted first, so that it is around everything else."""

    name = "observability"

    def __init__(self, settings: ObservabilitySettings, log: LogSettings, stream: TextIO | None = None) -> None:
        """`stream` None: standard output."""
        self._meter = PrometheusMeter()
        self._logs = LogOutput(
            python_level(log.log_level),
            capacity=settings.log_queue_records,
            drain_timeout_s=settings.log_drain_timeout_s,
            stream=stream,
            dropped=self._meter.counter("log_records_dropped_total", "Log records dropped: the output was too slow."),
        )
        self._slow_log = SlowOperations(settings.slow_thresholds_ms)
        self._report = RequestReport(self._meter, self._slow_log)
        self._loop_lag = LoopLag(self._meter)
        self._anonymous: Principal | None = None
        say_build(self._meter)

    @property
    def meter(self) -> PrometheusMeter:
        """For the generator of docs/metrics.md."""
        return self._meter

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return SETTINGS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(*load(env))

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        return replace(capabilities, meter=self._meter, slow_log=self._slow_log, logs=self._logs)

    def bind(self, capabilities: Capabilities) -> None:
        self._anonymous = capabilities.anonymous

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        observer = RequestObserver(self._report, self._anonymous)

        @asynccontextmanager
        async def lifespan(app: Litestar) -> AsyncGenerator[None]:
            self._logs.start()
            watching = asyncio.create_task(self._loop_lag.watch(), name="event-loop-lag")
            try:
                with observer.mounted_on(app):
                    yield
            finally:
                watching.cancel()
                await asyncio.to_thread(self._logs.stop)

        self._logs.install()
        app_config.logging_config = None  # Litestar's default would bring a second queue and plain lines
        app_config.after_exception.append(observer.note_exception)
        app_config.route_handlers.append(metrics_route(self._meter))
        app_config.lifespan.insert(0, lifespan)
        return app_config
