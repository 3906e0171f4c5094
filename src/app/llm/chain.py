"""A chain of targets: the first that answers wins. Knows no vendor; transports and guard are handed in.

With several targets the next one is tried at once; retries with backoff are for the last that is left. A target that
says the request itself is wrong ends the chain. A stream may fall back until its first token is there, never after.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from app.errors import AllTargetsFailed, UpstreamMisconfigured, UpstreamTimeout, UpstreamUnavailable
from app.llm.instruments import Instruments
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
from plugins.contract.errors import RetryableError, WattosError
from plugins.contract.ports import Guard, Meter

logger = logging.getLogger("llm")

FIRST_TOKEN_TIMEOUT_S = 60.0
"""Reasoning models think for tens of seconds before the first token; nothing useful takes a minute of silence."""

SILENCE_TIMEOUT_S = 60.0
"""Between two chunks of a stream: as long as before the first, for models that think again in between."""

TOTAL_TIMEOUT_S = 600.0
"""OpenAI's own clients give up after 600 s."""

T = TypeVar("T")


class Served(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a target gave. `attempts` counts the calls that were really sent, to all targets together."""

    value: T
    target: Target
    attempts: int


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
    ) -> None:
        self._chat = chat
        self._embedding = embedding
        self._guard = guard
        self._instruments = Instruments(meter)

    async def complete(self, call: ChatCall, targets: Sequence[Target]) -> Completed:
        """Raises: what the only target raised, or AllTargetsFailed."""

        async def attempt(target: Target) -> Reply:
            async with _within(TOTAL_TIMEOUT_S, target):
                return await self._chat[target.transport].complete(target, call)

        served = await self._walk(targets, attempt)
        usage, target = served.value.usage, served.target
        cost_nusd = self._account(target, usage)
        return Completed(reply=served.value, target=target, attempts=served.attempts, cost_nusd=cost_nusd)

    async def stream(self, call: ChatCall, targets: Sequence[Target]) -> Streamed:
        """Returns once the first token is there. Raises: as `complete`; afterwards the iterator raises."""

        async def attempt(target: Target) -> tuple[list[StreamChunk], AsyncIterator[StreamChunk]]:
            chunks = self._chat[target.transport].stream(target, call)
            try:
                async with _within(FIRST_TOKEN_TIMEOUT_S, target):
                    return await _until_token(chunks, target), chunks
            except BaseException:
                await _close(chunks)
                raise

        served = await self._walk(targets, attempt)
        first, rest = served.value
        return Streamed(chunks=self._relay(served.target, first, rest), target=served.target, attempts=served.attempts)

    async def embed(self, call: EmbeddingCall, targets: Sequence[Target]) -> Embedded:
        """Raises: as `complete`."""

        async def attempt(target: Target) -> Vectors:
            async with _within(TOTAL_TIMEOUT_S, target):
                return await self._embedding[target.transport].embed(target, call)

        served = await self._walk(targets, attempt)
        cost_nusd = self._account(served.target, served.value.usage)
        return Embedded(vectors=served.value, target=served.target, attempts=served.attempts, cost_nusd=cost_nusd)

    async def _walk(self, targets: Sequence[Target], attempt: Callable[[Target], Awaitable[T]]) -> Served[T]:
        sent = 0
        failures: list[tuple[Target, WattosError]] = []
        for target in targets:

            async def counted(target: Target = target) -> T:
                nonlocal sent
                sent += 1
                return await self._timed(target, attempt)

            try:
                value = await self._guard.call(target.id, counted, retry=target is targets[-1])
            except (RetryableError, UpstreamMisconfigured) as exc:
                failures.append((target, exc))
                logger.warning("target %s failed: %s", target.id, exc.code)
            else:
                return Served(value=value, target=target, attempts=sent)
        raise _summary(failures)

    async def _timed(self, target: Target, attempt: Callable[[Target], Awaitable[T]]) -> T:
        began = time.perf_counter()
        outcome = "error"
        try:
            value = await attempt(target)
            outcome = "ok"
            return value
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._instruments.called(target.id, outcome, (time.perf_counter() - began) * 1000)

    async def _relay(
        self, target: Target, first: Sequence[StreamChunk], rest: AsyncIterator[StreamChunk]
    ) -> AsyncIterator[StreamChunk]:
        usage: Usage | None = None
        held = deque(first)
        try:
            while (chunk := held.popleft() if held else await _next(rest, target)) is not None:
                usage = chunk.usage or usage
                if chunk.data:
                    yield chunk
        finally:
            await _close(rest)
            self._account(target, usage)

    def _account(self, target: Target, usage: Usage | None) -> int | None:
        cost_nusd = target.cost_nusd(usage)
        self._instruments.used(target.id, usage, cost_nusd, has_price=target.price is not None)
        return cost_nusd


class _within:  # noqa: N801  # used as a function
    """A named time-out: past it the target is at fault, and another may be tried."""

    def __init__(self, timeout_s: float, target: Target) -> None:
        self._timeout = asyncio.timeout(timeout_s)
        self._message = f"{target.id} did not answer within {timeout_s:g} s"

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._timeout.__aexit__(*exc)  # type: ignore[arg-type]  # passed on as they came
        except TimeoutError:
            raise UpstreamTimeout(self._message) from None


async def _until_token(chunks: AsyncIterator[StreamChunk], target: Target) -> list[StreamChunk]:
    """The chunks up to the first token. Raises: UpstreamUnavailable when there are none."""
    found: list[StreamChunk] = []
    async for chunk in chunks:
        found.append(chunk)
        if chunk.is_token:
            break
    if not found:
        raise UpstreamUnavailable(f"{target.id} ended its answer before it began")
    return found


async def _next(chunks: AsyncIterator[StreamChunk], target: Target) -> StreamChunk | None:
    """The next chunk, None at the end. Raises: UpstreamTimeout."""
    async with _within(SILENCE_TIMEOUT_S, target):
        return await anext(chunks, None)


async def _close(chunks: AsyncIterator[StreamChunk]) -> None:
    async with aclosing(chunks):  # type: ignore[type-var]  # transports give async generators
        pass


def _summary(failures: Sequence[tuple[Target, WattosError]]) -> WattosError:
    """The only failure itself; of several, one error that says what was tried."""
    if len(failures) == 1:
        return failures[0][1]
    waits = [s for _, exc in failures if (s := getattr(exc, "retry_after_s", None)) is not None]
    tried = ", ".join(f"{target.id} ({exc.code})" for target, exc in failures)
    return AllTargetsFailed(f"no target could answer: {tried}", retry_after_s=min(waits, default=None))
