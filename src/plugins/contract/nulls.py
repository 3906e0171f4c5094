"""What remains of a plugin that is off: objects that do nothing, at ~80 ns a call. No caller asks "is it on?"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from plugins.contract.breakers import BreakerStatus, Forced
from plugins.contract.limits import Limit
from plugins.contract.ports import Counter, Gauge, Histogram, OperationKind, Slot
from plugins.contract.principal import Identity, TenantId

T = TypeVar("T")


class NullInstrument:
    """Counts, observes and holds nothing."""

    def add(self, amount: float = 1, /, *labels: str) -> None:
        pass

    def observe(self, value: float, /, *labels: str) -> None:
        pass

    def set(self, value: float, /, *labels: str) -> None:
        pass


class NullMeter:
    """Observability off: every instrument is the same null one."""

    _instrument = NullInstrument()

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        return self._instrument

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Histogram:
        return self._instrument

    def gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        return self._instrument

    def sample(self, source: Callable[[], Awaitable[None]]) -> None:
        pass


class NullSlowLog:
    """Observability off: nothing is slow."""

    def took(self, kind: OperationKind, name: str, duration_ms: float) -> None:
        pass


class NullGuard:
    """Resilience off: one direct attempt. The chain still moves on to the next target."""

    async def call(
        self,
        name: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        retry: bool,
        deadline_s: float | None = None,
        is_whole: bool = True,
    ) -> T:
        return await attempt()

    def ended(self, name: str, error: BaseException | None, *, since_s: float) -> None:
        pass

    def unanswered(self, name: str, *, since_s: float) -> None:
        pass

    def states(self) -> Mapping[str, str]:
        return {}

    def recovered(self, name: str) -> None:
        pass


class NullBreakers:
    """Resilience off: there are none."""

    def statuses(self) -> Mapping[str, BreakerStatus]:
        return {}

    def reset(self, name: str) -> None:
        pass

    def force(self, name: str, state: Forced | None) -> None:
        pass


class NullCache:
    """Cache off: every look-up misses, and no key is computed."""

    def create_key(self, tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
        return ""

    def peek(self, key: str) -> bytes | None:
        return None

    async def get(self, key: str) -> bytes | None:
        return None

    async def set(self, key: str, value: bytes, *, ttl_s: float, tags: Sequence[str] = ()) -> None:
        pass

    async def get_or_set(
        self,
        key: str,
        produce: Callable[[], Awaitable[bytes]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        tags: Sequence[str] = (),
    ) -> bytes:
        return await produce()

    async def drop(self, tenant_id: TenantId, tag: str) -> None:
        pass


class NullIdentityLookup:
    """No accounts: every credential is unknown."""

    async def find(self, handle: bytes) -> Identity | None:
        return None

    async def used(self, keys: Mapping[UUID, float]) -> None:
        pass


class NullLimitLookup:
    """Nobody is limited."""

    async def of(self, tenant_id: UUID) -> Sequence[Limit]:
        return ()


class NullSlot:
    """Takes up no room."""

    def close(self, n_tokens: int | None) -> None:
        pass


class NullCallLimits:
    """Security off: everything is let in."""

    _slot = NullSlot()

    async def admit(self, *, tenant_id: UUID | None, user_id: UUID | None, key_id: UUID | None, n_tokens: int) -> Slot:
        return self._slot


class NullChangeFeed:
    """Nothing is told, so nothing is vouched for."""

    def __init__(self) -> None:
        self.left_alone_until_s = float("-inf")

    def subscribe(self, on_change: Callable[[bytes], None]) -> None:
        pass

    def vouched_until(self, asked_at_s: float) -> float:
        return asked_at_s
