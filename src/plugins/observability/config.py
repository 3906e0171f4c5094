"""Settings of the observability plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from plugins.contract.env import load_settings
from plugins.contract.ports import OperationKind
from plugins.contract.settings import SettingsGroup

Level = Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "critical"]

SlowMs = Annotated[float, Meta(ge=0, le=86_400_000, extra={"unit": "ms"})]


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`LOG_LEVEL`: the conventional name, without a prefix, because it holds for the whole process."""

    log_level: Level = "info"
    """The least severe lines that are written, in any case (`INFO`): pino's names, Python's are taken too."""


class ObservabilitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`PLUGINS_OBSERVABILITY_…`."""

    log_queue_records: Annotated[int, Meta(ge=1_000, le=1_000_000)] = 10_000
    """Log records that may wait for standard output; more are dropped and counted. About 1 KB each, so 10 MB.
    It is emptied every 50 ms, so 1,000 are 20,000 lines a second."""

    log_drain_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """At shutdown, how long to wait until waiting records are written: longer than a pipe's hiccup, shorter than
    any `SHUTDOWN_GRACE_S`."""

    slow_request_ms: SlowMs = 10_000
    """A request is slow when its answer, or a stream's first byte, takes longer. Models take seconds."""

    slow_statement_ms: SlowMs = 500
    """A statement is slow when the database takes longer. Ours take 1 to 10 ms; a search of 24,000 passages 2 ms."""

    slow_transaction_ms: SlowMs = 1_000
    """A transaction is slow when it holds its connection longer."""

    slow_model_ms: SlowMs = 10_000
    """A call of a target is slow when its whole answer, or a stream's first token, takes longer."""

    slow_embedding_ms: SlowMs = 5_000
    """An embedding call is slow when it takes longer. Eight passages take 1.6 s on two cores."""

    slow_cache_ms: SlowMs = 50
    """A look into the cache is slow when it takes longer. It should be faster by far than what it saves."""

    slow_job_ms: SlowMs = 300_000
    """A job is slow when it takes longer. Five minutes are about 1,500 passages on two cores."""

    @property
    def slow_thresholds_ms(self) -> dict[OperationKind, float]:
        return {
            "request": self.slow_request_ms,
            "statement": self.slow_statement_ms,
            "transaction": self.slow_transaction_ms,
            "model": self.slow_model_ms,
            "embedding": self.slow_embedding_ms,
            "cache": self.slow_cache_ms,
            "job": self.slow_job_ms,
        }


SETTINGS = (
    SettingsGroup("observability", ObservabilitySettings, "PLUGINS_OBSERVABILITY_"),
    SettingsGroup("observability", LogSettings),
)


def load(env: Mapping[str, str]) -> tuple[ObservabilitySettings, LogSettings]:
    """Raises: SettingsError."""
    settings = load_settings(ObservabilitySettings, env, prefix="PLUGINS_OBSERVABILITY_")
    return settings, load_settings(LogSettings, env)
