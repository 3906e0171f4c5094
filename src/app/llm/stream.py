"""A target's stream, watched: silent until its first token is there, then piece by piece, each within its time-out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType

from app.errors import DeadlineExceeded, UpstreamTimeout, UpstreamUnavailable
from app.llm.model import Events, Target


class within:  # noqa: N801  # reads as what it is: `async with within(3, target):`
    """Raises: UpstreamTimeout past it. A TimeoutError from inside that is not ours passes through."""

    __slots__ = ("_clock", "_target", "_timeout_s")

    def __init__(self, timeout_s: float, target: Target) -> None:
        self._clock = asyncio.timeout(timeout_s)
        self._timeout_s = timeout_s
        self._target = target

    async def __aenter__(self) -> None:
        await self._clock.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._clock.__aexit__(kind, exc, trace)
        except TimeoutError:
            if not self._clock.expired():
                raise
            raise UpstreamTimeout(f"{self._target.id} did not answer within {self._timeout_s:g} s") from None


class before:  # noqa: N801  # likewise; a generator would cost each call 2 µs where there is no deadline
    """`deadline_s`: of the event loop's clock. Raises: DeadlineExceeded past it."""

    __slots__ = ("_clock",)

    def __init__(self, deadline_s: float | None) -> None:
        self._clock = None if deadline_s is None else asyncio.timeout_at(deadline_s)

    async def __aenter__(self) -> None:
        if self._clock is not None:
            await self._clock.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._clock is None:
            return
        try:
            await self._clock.__aexit__(kind, exc, trace)
        except TimeoutError:
            if not self._clock.expired():
                raise
            raise late() from None


def late() -> DeadlineExceeded:
    return DeadlineExceeded("the answer did not come within x-request-timeout-ms")


async def until_token(pieces: AsyncIterator[Events], target: Target) -> list[Events]:
    """The pieces up to the first token; `pieces` is closed if there is none to be had.

    Raises: UpstreamUnavailable for an empty stream, UpstreamTimeout, what the transport raises.
    """
    found: list[Events] = []
    try:
        async with within(target.timeouts.first_token_s, target):
            async for piece in pieces:
                found.append(piece)
                if piece.is_token and piece.wire:
                    break
        if not found:
            raise UpstreamUnavailable(f"{target.id} ended its answer before it began")
    except BaseException:
        await close(pieces)
        raise
    return found


class Patience:
    """Waits for a stream's pieces, each for as long as its target may be silent, and not past a deadline.

    One timer for all of them, put off lazily: 0.2 µs a piece, where a time-out of its own costs each 5 (measured).
    """

    def __init__(self, pieces: AsyncIterator[Events], target: Target, deadline_s: float | None = None) -> None:
        self._pieces = pieces
        self._target = target
        self._silence_s = target.timeouts.silence_s
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Task[object] | None = None
        self._since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._has_expired = False

    async def next(self) -> Events | None:
        """The next piece, None at the end. Raises: UpstreamTimeout, DeadlineExceeded, what the transport raises."""
        self._since_s = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._due_s(), self._look)
        self._waiting = asyncio.current_task()
        try:
            return await anext(self._pieces, None)
        except asyncio.CancelledError:
            if self._has_expired and self._waiting is not None and self._waiting.uncancel() == 0:
                raise self._reason() from None
            raise
        finally:
            self._waiting = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _due_s(self) -> float:
        due_s = self._since_s + self._silence_s
        return due_s if self._deadline_s is None else min(due_s, self._deadline_s)

    def _look(self) -> None:
        """The timer fired, for the piece that was waited for when it was set: a later one has time left."""
        due_s = self._due_s()
        if self._waiting is None or self._loop.time() < due_s:
            # While the reader is slow nothing is waited for: looked at again after one more silence.
            later_s = due_s if self._waiting is not None else self._loop.time() + self._silence_s
            self._timer = self._loop.call_at(later_s, self._look)
        else:
            self._has_expired = True
            self._waiting.cancel()

    def _reason(self) -> UpstreamTimeout:
        if self._deadline_s is not None and self._loop.time() >= self._deadline_s:
            return late()
        return UpstreamTimeout(f"{self._target.id} said nothing for {self._silence_s:g} s")


async def close(pieces: AsyncIterator[Events]) -> None:
    """Closes the target's connection, too, when it still sends."""
    async with aclosing(pieces):  # type: ignore[type-var]  # transports give async generators
        pass
