"""Settings of the observability plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from plugins.contract.env import load_settings
from plugins.contract.settings import SettingsGroup

Level = Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "critical"]


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`LOG_LEVEL`: the conventional name, without a prefix, because it holds for the whole process."""

    log_level: Level = "info"
    """The least severe lines that are written, in any case (`INFO`): pino's names, Python's are taken too."""


class ObservabilitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`PLUGINS_OBSERVABILITY_…`."""

    log_queue_records: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    """Log records that may wait for standard output; more are dropped and counted. About 1 KB each, so 10 MB."""

    log_drain_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """At shutdown, how long to wait until waiting records are written: longer than a pipe's hiccup, shorter than
    any `SHUTDOWN_GRACE_S`."""


SETTINGS = (
    SettingsGroup("observability", ObservabilitySettings, "PLUGINS_OBSERVABILITY_"),
    SettingsGroup("observability", LogSettings),
)


def load(env: Mapping[str, str]) -> tuple[ObservabilitySettings, LogSettings]:
    """Raises: SettingsError."""
    settings = load_settings(ObservabilitySettings, env, prefix="PLUGINS_OBSERVABILITY_")
    lowered = {"LOG_LEVEL": env["LOG_LEVEL"].strip().lower()} if "LOG_LEVEL" in env else {}
    return settings, load_settings(LogSettings, lowered)
