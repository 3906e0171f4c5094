"""Retries with exponential backoff and full jitter, by tenacity.

Full jitter (a random wait between nothing and the backoff) spreads clients that failed together:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec
from tenacity import AsyncRetrying, RetryCallState

from plugins.contract.errors import RetryableError
from plugins.resilience.breaker import REFUSALS

T = TypeVar("T")
Forgone = Literal["deadline", "budget"]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`max_attempts` includes the first. The n-th retry waits at most `initial_delay_s × backoff_multiplier^(n-1)`."""

    max_attempts: int
    initial_delay_s: float
    max_delay_s: float
    backoff_multiplier: float
    budget_ratio: float = 0.2
    """Retries a call, over a minute: the requirement's 20 %."""


class Retry:
    """Only a RetryableError is tried again, and never a refusal. Cancellation ends attempt and wait alike."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        """`sleep` takes seconds; `random` gives a number in [0, 1)."""
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._random = random

    def may_retry(self, exc: RetryableError) -> bool:
        """Whether the policy has another attempt after a first one that failed like this."""
        return self._policy.max_attempts > 1 and self._is_retried(exc)

    async def after(
        self,
        first: RetryableError,
        attempt: Callable[[], Awaitable[T]],
        *,
        worth_it: Callable[[], bool],
        granted: Callable[[float], bool],
        deadline_s: float | None,
        forgone: Callable[[Forgone], None],
    ) -> T:
        """tenacity's loop, told of the first failure. It costs 25 µs a call (measured), so success never enters it.

        `worth_it`: asked after a failure whether a further attempt has a chance at all. `granted`: asked last, with
        the wait in seconds, whether it is allowed. No wait ends past `deadline_s`. `forgone` hears why none is made.

        Raises: what the last attempt that sent something raised; a refusal only when none did.
        """

        def give_up(state: RetryCallState) -> bool:
            if state.attempt_number >= self._policy.max_attempts:
                return True
            if deadline_s is not None and self._clock() + state.upcoming_sleep >= deadline_s:
                forgone("deadline")
                return True
            if not granted(state.upcoming_sleep):
                forgone("budget")
                return True
            return False

        sent: list[BaseException | None] = []

        async def first_then_attempt() -> T:
            if not sent:
                raise first
            return await attempt()

        def again(state: RetryCallState) -> bool:
            return self._is_retried(_raised(state)) and worth_it()

        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=give_up,
            wait=self._wait_s,
            retry=again,
            before_sleep=lambda state: sent.append(_raised(state)),
            reraise=True,
        )
        try:
            return await retrying(first_then_attempt)
        except REFUSALS:
            if sent and sent[-1] is not None:
                raise sent[-1] from None
            raise

    def _is_retried(self, exc: BaseException | None) -> bool:
        if not isinstance(exc, RetryableError) or isinstance(exc, REFUSALS):
            return False
        return (exc.retry_after_s or 0) <= self._policy.max_delay_s

    def _wait_s(self, state: RetryCallState) -> float:
        """Jitter on top of what the other side asked for, so that not all come back in the same instant."""
        policy = self._policy
        exc = _raised(state)
        at_least_s = (isinstance(exc, RetryableError) and exc.retry_after_s) or 0.0
        backoff_s = policy.initial_delay_s * policy.backoff_multiplier ** (state.attempt_number - 1)
        return min(policy.max_delay_s, at_least_s + self._random() * min(policy.max_delay_s, backoff_s))


def _raised(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
