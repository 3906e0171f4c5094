"""A target's stream, watched: silent until its first token is there, then piece by piece, each within its time-out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from app.errors import DeadlineExceeded, UpstreamTimeout, UpstreamUnavailable
from app.llm.model import Events, Target


class _Timer:
    """`asyncio.timeout_at` without anything to await: half its price, and each call has several (measured). With None
    as its end it costs nothing."""

    __slots__ = ("_due_s", "_handle", "_has_expired", "_n_cancelling", "_task")

    def __init__(self, due_s: float | None) -> None:
        """`due_s`: of the event loop's clock."""
        self._due_s = due_s

    def __enter__(self) -> None:
        if self._due_s is None:
            return
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._n_cancelling = task.cancelling()
        self._has_expired = False
        self._handle = asyncio.get_running_loop().call_at(self._due_s, self._expire)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._due_s is None:
            return
        self._handle.cancel()
        if self._has_expired and self._task.uncancel() <= self._n_cancelling and kind is asyncio.CancelledError:
            raise self._late() from None

    def _expire(self) -> None:
        self._has_expired = True
        self._task.cancel()

    def _late(self) -> Exception:
        raise NotImplementedError


class within(_Timer):  # noqa: N801  # reads as what it is: `with within(3, target):`
    """Raises: UpstreamTimeout past it. A TimeoutError from inside passes through."""

    __slots__ = ("_target", "_timeout_s")

    def __init__(self, timeout_s: float, target: Target) -> None:
        super().__init__(asyncio.get_running_loop().time() + timeout_s)
        self._timeout_s = timeout_s
        self._target = target

    def _late(self) -> UpstreamTimeout:
        return UpstreamTimeout(f"{self._target.id} did not answer within {self._timeout_s:g} s")


class before(_Timer):  # noqa: N801  # likewise
    """`deadline_s`: of the event loop's clock. Raises: DeadlineExceeded past it."""

    __slots__ = ()

    def _late(self) -> DeadlineExceeded:
        return late()


def late() -> DeadlineExceeded:
    return DeadlineExceeded("the answer did not come within x-request-timeout-ms")


async def until_token(pieces: AsyncIterator[Events], target: Target) -> list[Events]:
    """The pieces up to the first token; `pieces` is closed if there is none to be had.

    Raises: UpstreamUnavailable for an empty stream, UpstreamTimeout, what the transport raises.
    """
    found: list[Events] = []
    try:
        with within(target.timeouts.first_token_s, target):
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
