"""A chain of targets: the first that answers wins. Knows no vendor; transports and guard are handed in.

With several targets the next one is tried at once; retries with backoff are for the last that is left. A target that
says the request itself is wrong ends the chain. A stream may fall back until its first token is there, never after.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from app.errors import AllTargetsFailed, UpstreamMisconfigured
from app.llm.instruments import Finished, Instruments, outcome_of
from app.llm.model import (
    ChatCall,
    ChatTransport,
    EmbeddingCall,
    EmbeddingTransport,
    Reply,
    StreamChunk,
    Target,
    Usage,
    Vectors,
)
from app.llm.outcomes import LastOutcomes
from app.llm.stream import close, following, until_token, within
from plugins.contract.errors import RetryableError, WattosError
from plugins.contract.nulls import NullSlowLog
from plugins.contract.ports import Guard, Meter, SlowLog
from plugins.contract.work import waited_for_model

logger = logging.getLogger("llm")

T = TypeVar("T")
_Opened = tuple[Sequence[StreamChunk], AsyncIterator[StreamChunk]]


class Served(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a target gave. `attempts` counts the calls that were really sent, to all targets together."""

    value: T
    target: Target
    attempts: int
    began_s: float
    """Monotonic: when the first target was asked."""


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer and its trail."""

    reply: Reply
    target: Target
    attempts: int
    cost_nusd: int | None


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """A stream whose first token is there. Close `chunks` early and the target's connection is closed."""

    chunks: AsyncIterator[StreamChunk]
    target: Target
    attempts: int


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors and their trail."""

    vectors: Vectors
    target: Target
    attempts: int
    cost_nusd: int | None


class Chain:
    """Walks targets in order."""

    def __init__(
        self,
        *,
        chat: Mapping[str, ChatTransport],
        embedding: Mapping[str, EmbeddingTransport],
        guard: Guard,
        meter: Meter,
        slow_log: SlowLog | None = None,
        outcomes: LastOutcomes | None = None,
    ) -> None:
        self._chat = chat
        self._embedding = embedding
        self._guard = guard
        self._instruments = Instruments(meter, slow_log or NullSlowLog())
        self._outcomes = outcomes or LastOutcomes()

    async def complete(self, call: ChatCall, targets: Sequence[Target]) -> Completed:
        """Raises: what the only target raised, or AllTargetsFailed."""

        async def attempt(target: Target) -> Reply:
            async with within(target.timeouts.total_s, target):
                return await self._chat[target.transport].complete(target, call)

        served = await self._walk(targets, self._counted(attempt))
        cost_nusd = self._finish(served, "ok", served.value.usage)
        return Completed(reply=served.value, target=served.target, attempts=served.attempts, cost_nusd=cost_nusd)

    async def stream(self, call: ChatCall, targets: Sequence[Target]) -> Streamed:
        """Returns once the first token is there. Raises: as `complete`; afterwards the iterator raises."""

        async def attempt(target: Target) -> _Opened:
            chunks = self._chat[target.transport].stream(target, call)
            return await until_token(chunks, target), chunks

        served = await self._walk(targets, self._counted(attempt, is_whole=False))
        return Streamed(chunks=self._relay(served), target=served.target, attempts=served.attempts)

    async def embed(self, call: EmbeddingCall, targets: Sequence[Target]) -> Embedded:
        """Raises: as `complete`."""

        async def attempt(target: Target) -> Vectors:
            async with within(target.timeouts.total_s, target):
                return await self._embedding[target.transport].embed(target, call)

        served = await self._walk(targets, self._counted(attempt))
        cost_nusd = self._finish(served, "ok", served.value.usage)
        return Embedded(vectors=served.value, target=served.target, attempts=served.attempts, cost_nusd=cost_nusd)

    async def _walk(self, targets: Sequence[Target], attempt: Callable[[Target], Awaitable[T]]) -> Served[T]:
        sent, began_s = 0, time.monotonic()
        failures: list[tuple[Target, WattosError]] = []
        for target in targets:

            async def send(target: Target = target) -> T:
                nonlocal sent
                sent += 1
                return await attempt(target)

            asked_s = time.monotonic()
            try:
                value = await self._guard.call(target.id, send, retry=target is targets[-1])
            except (RetryableError, UpstreamMisconfigured) as exc:
                failures.append((target, exc))
                self._outcomes.failed(target.id, exc)
                logger.warning("target %s failed: %s", target.id, exc.code)
            else:
                self._outcomes.answered(target.id)
                return Served(value=value, target=target, attempts=sent, began_s=began_s)
            finally:
                waited_for_model(time.monotonic() - asked_s)
        raise _summary(failures)

    def _counted(
        self, attempt: Callable[[Target], Awaitable[T]], *, is_whole: bool = True
    ) -> Callable[[Target], Awaitable[T]]:
        """The same, counted and timed. What is not whole yet, a stream that began, is counted when it ends."""

        async def counted(target: Target) -> T:
            began_s = time.monotonic()
            try:
                value = await attempt(target)
            except BaseException as exc:
                self._instruments.called(target, outcome_of(exc))
                raise
            finally:
                self._instruments.took(target, (time.monotonic() - began_s) * 1000)
            if is_whole:
                self._instruments.called(target, "ok")
            return value

        return counted

    async def _relay(self, served: Served[_Opened]) -> AsyncIterator[StreamChunk]:
        first, rest = served.value
        held, usage, outcome = deque(first), None, "ok"
        try:
            while (chunk := held.popleft() if held else await following(rest, served.target)) is not None:
                usage = chunk.usage or usage
                if chunk.data:
                    yield chunk
        except BaseException as exc:
            outcome = outcome_of(exc)
            raise
        finally:
            self._instruments.called(served.target, outcome)
            self._finish(served, outcome, usage)
            await close(rest)

    def _finish(self, served: Served[T], outcome: str, usage: Usage | None) -> int | None:
        """Returns: the cost."""
        cost_nusd = served.target.cost_nusd(usage)
        self._instruments.finished(
            Finished(
                target=served.target,
                attempts=served.attempts,
                outcome=outcome,
                usage=usage,
                cost_nusd=cost_nusd,
                duration_ms=(time.monotonic() - served.began_s) * 1000,
            )
        )
        return cost_nusd


def _summary(failures: Sequence[tuple[Target, WattosError]]) -> WattosError:
    """The only failure itself; of several, one error that says what was tried."""
    if len(failures) == 1:
        return failures[0][1]
    waits = [s for _, exc in failures if (s := getattr(exc, "retry_after_s", None)) is not None]
    tried = ", ".join(f"{target.id} ({exc.code})" for target, exc in failures)
    return AllTargetsFailed(f"no target could answer: {tried}", retry_after_s=min(waits, default=None))
