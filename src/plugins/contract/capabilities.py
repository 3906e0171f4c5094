"""What is there to be used: one immutable record that starts as nulls and that each plugin may replace a part of."""

from __future__ import annotations

import msgspec

from plugins.contract.access_tokens import AccessTokens
from plugins.contract.health import HealthCheck
from plugins.contract.nulls import (
    NullBreakers,
    NullCache,
    NullCallLimits,
    NullChangeFeed,
    NullGuard,
    NullIdentityLookup,
    NullLimitLookup,
    NullMeter,
    NullSlowLog,
)
from plugins.contract.plain_logs import PlainLogs
from plugins.contract.ports import (
    Breakers,
    Cache,
    CallLimits,
    ChangeFeed,
    Guard,
    IdentityLookup,
    LimitLookup,
    Logs,
    Meter,
    SharedState,
    SlowLog,
)
from plugins.contract.principal import ANONYMOUS, Principal


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin gives with `msgspec.structs.replace(capabilities, guard=...)`; it takes in `bind`, after all gave."""

    meter: Meter = NullMeter()
    slow_log: SlowLog = NullSlowLog()
    logs: Logs = msgspec.field(default_factory=PlainLogs)
    guard: Guard = NullGuard()
    breakers: Breakers = NullBreakers()
    cache: Cache = NullCache()
    cache_state: str = "off"
    """What `x-wattos-cache` says when there was no look-up: `off` from the null, `miss` once a cache is mounted."""
    anonymous: Principal | None = ANONYMOUS
    """Who a request without a principal is. The security plugin sets None: then such a request is refused."""
    identity_lookup: IdentityLookup = NullIdentityLookup()
    change_feed: ChangeFeed = msgspec.field(default_factory=NullChangeFeed)
    limit_lookup: LimitLookup = NullLimitLookup()
    call_limits: CallLimits = NullCallLimits()
    shared_state: SharedState | None = None
    """None: without VALKEY_URL, or with the cache plugin off, this process shares nothing."""
    access_tokens: AccessTokens | None = None
    """Who signs them. None: nobody can sign in."""
    credentials_covered_for_s: float = 0.0
    """How long known credentials are still taken while the database is away."""
    health_checks: tuple[HealthCheck, ...] = ()
    """Of what plugins depend on: each adds its own."""
