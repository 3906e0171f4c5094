"""The guard for programs without the web server: a context manager and a decorator. docs/RESILIENCE.md has an example.

A block is guarded by a breaker alone: nobody can run its lines twice. A function may be tried again where it says so.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from plugins.contract.breakers import BreakerStatus
from plugins.resilience.breaker import Breaker
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard

P = ParamSpec("P")
T = TypeVar("T")


class Guarded:
    """`guard("name")` for blocks, `@guard.protect("name")` for functions. Names come from a bounded set.

    Failures are `RetryableError`s alone: whoever calls a library raises one for what may succeed later.
    """

    def __init__(self, guard: ResilientGuard) -> None:
        self._guard = guard

    def __call__(self, name: str) -> _Block:
        """`async with`: its outcome is the dependency's. Raises: CircuitOpen before the block begins."""
        return _Block(self._guard, name)

    def protect(
        self, name: str, *, retry: bool = False
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """`retry`: it may be called again after a failure; only for what does no harm when done twice."""

        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
            @functools.wraps(function)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
                return await self._guard.call(name, lambda: function(*args, **kwargs), retry=retry)

            return guarded

        return decorate

    def status(self, name: str) -> BreakerStatus:
        """Of a dependency that was never called, too."""
        return self._guard.circuits.of(name).status


def standalone(settings: ResilienceSettings | None = None) -> Guarded:
    """A guard of its own, with the defaults of the settings. For one event loop."""
    settings = settings or ResilienceSettings()
    return Guarded(ResilientGuard(settings.breaker, settings.retry))


class _Block:
    """One entry: a second one of the same object is another call."""

    __slots__ = ("_guard", "_name", "_term")

    def __init__(self, guard: ResilientGuard, name: str) -> None:
        self._guard = guard
        self._name = name
        self._term: tuple[Breaker, int] | None = None

    async def __aenter__(self) -> Self:
        self._term = self._guard.admit(self._name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._term is not None:
            breaker, term = self._term
            breaker.settle(term, exc)
