"""Settings of the resilience plugin: the names and milliseconds that the requirements fix, without a prefix."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup
from plugins.resilience.breaker import BreakerPolicy
from plugins.resilience.retry import RetryPolicy


class ResilienceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`CIRCUIT_BREAKER_…` and `RETRY_…`; all times in milliseconds."""

    circuit_breaker_failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Failures in a row, within the monitoring period, that open the circuit."""

    circuit_breaker_reset_timeout: Annotated[int, Meta(ge=1, le=3_600_000, extra={"unit": "ms"})] = 60_000
    """Milliseconds that an open circuit refuses calls before one probe may try."""

    circuit_breaker_monitoring_period: Annotated[int, Meta(ge=1, le=3_600_000, extra={"unit": "ms"})] = 60_000
    """Milliseconds after which a failure no longer counts."""

    retry_max_attempts: Annotated[int, Meta(ge=1, le=20)] = 3
    """Attempts in all, the first one included."""

    retry_initial_delay: Annotated[int, Meta(ge=0, le=600_000, extra={"unit": "ms"})] = 1_000
    """Milliseconds that the first retry waits at most."""

    retry_max_delay: Annotated[int, Meta(ge=0, le=600_000, extra={"unit": "ms"})] = 30_000
    """Milliseconds that any retry waits at most; asked to wait longer (`Retry-After`), the call is given up."""

    retry_backoff_multiplier: Annotated[float, Meta(ge=1, le=10)] = 2
    """Factor by which each retry's longest wait grows."""

    def __post_init__(self) -> None:
        if self.retry_initial_delay > self.retry_max_delay:
            raise SettingsError(
                f"RETRY_INITIAL_DELAY={self.retry_initial_delay} cannot be used: "
                f"it is over RETRY_MAX_DELAY={self.retry_max_delay}"
            )

    @property
    def breaker(self) -> BreakerPolicy:
        return BreakerPolicy(
            failure_threshold=self.circuit_breaker_failure_threshold,
            reset_timeout_s=self.circuit_breaker_reset_timeout / 1000,
            monitoring_period_s=self.circuit_breaker_monitoring_period / 1000,
        )

    @property
    def retry(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self.retry_max_attempts,
            initial_delay_s=self.retry_initial_delay / 1000,
            max_delay_s=self.retry_max_delay / 1000,
            backoff_multiplier=self.retry_backoff_multiplier,
        )


class ProtectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`PLUGINS_RESILIENCE_…`: against more than can be borne."""

    retry_budget_percent: Annotated[int, Meta(ge=0, le=100, extra={"unit": "%"})] = 20
    """Retries in a minute per dependency, in percent of its calls, so that they make no outage worse. Ten a minute are
    always allowed: what five failing calls retry with the defaults, and five failures open the breaker."""

    max_concurrent_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_000
    """Model calls at once in this process, streams until their end: half of MAX_CONNECTIONS, so that some are left for
    those that wait, and for what is never refused."""

    max_queued_requests: Annotated[int, Meta(ge=0, le=1_000_000)] = 1_000
    """Model calls that wait for a place; more are refused at once (503). A quarter of MAX_CONNECTIONS."""

    max_queue_wait_ms: Annotated[int, Meta(ge=1, le=600_000)] = 5_000
    """How long a model call waits for a place before it is refused. A person waits no longer for nothing at all."""

    max_loop_lag_ms: Annotated[int, Meta(ge=0, le=600_000)] = 500
    """How late the event loop may be, in three samples in a row, before batch calls are refused, and at four times as
    much interactive ones. Nothing of ours computes on it for over 5 ms, so it has far too much to do by then; probes
    that wait for a second still succeed. 0: any lag."""


SETTINGS = (
    SettingsGroup("resilience", ResilienceSettings),
    SettingsGroup("resilience", ProtectionSettings, "PLUGINS_RESILIENCE_"),
)
