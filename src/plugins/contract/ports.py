"""What plugins offer the app and the app offers plugins: small protocols, one to three methods each.

Every port that a plugin implements has a null implementation in `nulls`, so that no caller asks "is it on?".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from plugins.contract.breakers import BreakerStatus, Forced
from plugins.contract.limits import Limit
from plugins.contract.principal import Identity, TenantId

T = TypeVar("T")


class Counter(Protocol):
    """A number that only grows, per combination of label values."""

    def add(self, amount: float = 1, /, *labels: str) -> None: ...


class Histogram(Protocol):
    """A distribution of observed values, per combination of label values."""

    def observe(self, value: float, /, *labels: str) -> None: ...


class Gauge(Protocol):
    """A number that goes up and down, per combination of label values."""

    def set(self, value: float, /, *labels: str) -> None: ...


class Meter(Protocol):
    """Makes instruments. Label values must come from bounded sets; `labels` gives their names, in order.

    Asking twice for one name returns the same instrument.
    """

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter: ...

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Histogram: ...

    def gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge: ...

    def sample(self, source: Callable[[], Awaitable[None]]) -> None:
        """`source` sets gauges. It is awaited when the metrics are read, and given up after a second."""
        ...


OperationKind = Literal["request", "statement", "transaction", "model", "embedding", "cache", "job"]


class SlowLog(Protocol):
    """Hears of every operation once it is over, and logs those past their kind's threshold."""

    def took(self, kind: OperationKind, name: str, duration_ms: float) -> None:
        """`name`: the operation, never its values. A stream took until its first token."""
        ...


class Logs(Protocol):
    """The process's log output. Nothing secret leaves through it."""

    def install(self) -> None:
        """Become the only one. Again does no harm."""
        ...

    def start(self) -> None:
        """Hand writing over to a thread, if there is one."""
        ...

    def stop(self) -> None:
        """Write what waits. Blocks: call it in a thread. Later lines are written where they are made."""
        ...

    def conceal(self, secrets: Iterable[str]) -> None:
        """These texts never appear in a line, wherever they stand; short ones are ignored, as they are words too."""
        ...


class Guard(Protocol):
    """Wraps one dependency's calls: breaker around each attempt, retry with backoff where `retry` says so.

    Raises: CircuitOpen before anything is sent; else whatever the last attempt raised. Cancellation passes through.
    """

    async def call(
        self,
        name: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        retry: bool,
        deadline_s: float | None = None,
        is_whole: bool = True,
    ) -> T:
        """`deadline_s`: of the event loop's clock; no retry waits past it. `is_whole`: False where an attempt only
        begins what `ended` tells the end of."""
        ...

    def ended(self, name: str, error: BaseException | None, *, since_s: float) -> None:
        """What an attempt began came to its end, or broke off by an error of the dependency's; nothing is to be told of
        what was given up. `since_s`: when `call` had returned it, by the event loop's clock."""
        ...

    def unanswered(self, name: str, *, since_s: float) -> None:
        """An attempt sent at `since_s` was given up by its caller, who had waited for longer than an answer takes: a
        failure, unless somebody was answered meanwhile."""
        ...

    def states(self) -> Mapping[str, str]:
        """Breaker state (`closed`, `open`, `half_open`) by dependency name, for those seen so far."""
        ...

    def recovered(self, name: str) -> None:
        """Somebody who asked it in the background was answered: its breaker need not wait for its own time."""
        ...


class Breakers(Protocol):
    """The operator's side of the guard. All of it holds in this process at once, elsewhere as soon as it is told."""

    def statuses(self) -> Mapping[str, BreakerStatus]:
        """By dependency name, for those seen so far."""
        ...

    def reset(self, name: str) -> None:
        """Closed, with no failure behind it, and forced to nothing."""
        ...

    def force(self, name: str, state: Forced | None) -> None:
        """Always or never called from now on; None: by its outcomes again."""
        ...


class Cache(Protocol):
    """Bytes by key, for a while. An error of the backend is a miss, never an exception.

    `tags`: names, of the same tenant, under which entries can be dropped together.
    """

    def create_key(self, tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
        """A canonical key that contains the tenant: two tenants never share one, nor do two splits of the same text."""
        ...

    def peek(self, key: str) -> bytes | None:
        """What this process has at hand. None says little: `get` may find it elsewhere."""
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, *, ttl_s: float, tags: Sequence[str] = ()) -> None: ...

    async def get_or_set(
        self,
        key: str,
        produce: Callable[[], Awaitable[bytes]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        tags: Sequence[str] = (),
    ) -> bytes:
        """What is kept, else what `produce` gives, which runs once for all who wait. Raises: what `produce` raises.

        `stale_s`: for so long after `ttl_s` the old value is given while a new one is produced.
        """
        ...

    async def drop(self, tenant_id: TenantId, tag: str) -> None:
        """Nothing that was set under this tag is given again, by any replica that can be told."""
        ...


class IdentityLookup(Protocol):
    """The app's answer to "who is this?", before a tenant is known. `handle` is one of `plugins.contract.credentials`.

    Raises: RetryableError when the database cannot be asked.
    """

    async def find(self, handle: bytes) -> Identity | None: ...

    async def used(self, keys: Mapping[UUID, float]) -> None:
        """When each key was last used, in epoch seconds."""
        ...


class LimitLookup(Protocol):
    """The app's answer to "what may this tenant, its users and its keys use a minute?". Raises: RetryableError."""

    async def of(self, tenant_id: UUID) -> Sequence[Limit]: ...


class Slot(Protocol):
    """One model call that was let in. Closed once; later closings are ignored."""

    def close(self, n_tokens: int | None) -> None:
        """`n_tokens`: what was really used; None: what was expected stands."""
        ...


class CallLimits(Protocol):
    """Tokens a minute and calls at once, asked for a model call that the cache did not answer."""

    async def admit(self, *, tenant_id: UUID | None, user_id: UUID | None, key_id: UUID | None, n_tokens: int) -> Slot:
        """`n_tokens`: input and the most that may come out. Raises: RateLimited; then nothing is used up."""
        ...


class SharedState(Protocol):
    """What all replicas share, in Valkey: one Lua script at a time. Waits a fraction of a second at most."""

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Sequence[object]:
        """Raises: RetryableError when it does not answer. The script may have run nevertheless."""
        ...


class ChangeFeed(Protocol):
    """What changes in the database, wherever it is changed, as it tells it. Times are monotonic seconds."""

    left_alone_until_s: float
    """Until when the database, which somebody just asked in vain, is not waited for where an answer is known. For all
    who remember: else each of them would wait, one after the other, for the same request."""

    def subscribe(self, on_change: Callable[[bytes], None]) -> None:
        """`on_change` is called with the handle of what changed."""
        ...

    def vouched_until(self, asked_at_s: float) -> float:
        """Until when an answer asked for at that time is still right, unless its handle was told since. Never before
        that time; an open feed moves it on several times a second.
        """
        ...
