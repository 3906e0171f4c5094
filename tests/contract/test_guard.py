"""What every `Guard` keeps, the null one included. A new implementation is one more row of `GUARDS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from plugins.contract.errors import AuthenticationFailed, RetryableError
from plugins.contract.nulls import NullGuard
from plugins.contract.ports import Guard
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard

pytestmark = pytest.mark.requirement("RES-1")

SETTINGS = ResilienceSettings(retry_initial_delay=0, circuit_breaker_failure_threshold=100)
GUARDS: dict[str, Callable[[], Guard]] = {
    "null": NullGuard,
    "resilient": lambda: ResilientGuard(SETTINGS.breaker, SETTINGS.retry),
}


@pytest.fixture(params=GUARDS.values(), ids=GUARDS)
def guard(request: pytest.FixtureRequest) -> Guard:
    made: Guard = request.param()
    return made


@pytest.mark.parametrize("retry", [True, False])
async def test_an_answer_is_handed_on_and_asked_for_once(guard: Guard, retry: bool) -> None:
    """The result is the attempt's very own."""
    answer, asked = object(), []

    async def attempt() -> object:
        asked.append(1)
        return answer

    assert await guard.call("a", attempt, retry=retry) is answer
    assert asked == [1]


@pytest.mark.parametrize("retry", [True, False])
async def test_an_error_that_is_not_retryable_is_handed_on_at_once(guard: Guard, retry: bool) -> None:
    """The very exception, after one attempt."""
    failure, asked = AuthenticationFailed("no"), []

    async def attempt() -> None:
        asked.append(1)
        raise failure

    with pytest.raises(AuthenticationFailed) as caught:
        await guard.call("a", attempt, retry=retry)
    assert caught.value is failure
    assert asked == [1]


async def test_nothing_is_tried_again_without_leave(guard: Guard) -> None:
    """`retry=False` is one attempt, for whatever must not happen twice."""
    asked = []

    async def attempt() -> None:
        asked.append(1)
        raise RetryableError("down")

    with pytest.raises(RetryableError, match="down"):
        await guard.call("a", attempt, retry=False)
    assert asked == [1]


async def test_the_last_attempts_error_is_raised(guard: Guard) -> None:
    """Tried again or not, the caller sees a real failure, not the guard's."""
    raised: list[RetryableError] = []

    async def attempt() -> None:
        raised.append(RetryableError("down"))
        raise raised[-1]

    with pytest.raises(RetryableError) as caught:
        await guard.call("a", attempt, retry=True)
    assert caught.value is raised[-1]


async def test_what_has_begun_is_handed_on_and_its_end_taken(guard: Guard) -> None:
    """However it ends, and of a dependency that was never called, too."""

    async def attempt() -> str:
        return "stream"

    for name, error in (("a", None), ("a", RetryableError("it broke off")), ("b", AuthenticationFailed("no"))):
        assert await guard.call("a", attempt, retry=False, is_whole=False) == "stream"
        guard.ended(name, error, since_s=asyncio.get_running_loop().time())


@pytest.mark.parametrize("retry", [True, False])
async def test_cancellation_passes_through(guard: Guard, retry: bool) -> None:
    """The attempt is cancelled, and so is the call."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def attempt() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = asyncio.create_task(guard.call("a", attempt, retry=retry))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cancelled.is_set()


async def test_states_are_of_a_bounded_set(guard: Guard) -> None:
    """`closed`, `open` or `half_open`, by name of the dependency."""

    async def attempt() -> None: ...

    await guard.call("a", attempt, retry=True)
    assert set(guard.states()) <= {"a"}
    assert set(guard.states().values()) <= {"closed", "open", "half_open"}


async def test_a_deadline_far_off_and_news_of_recovery_change_nothing(guard: Guard) -> None:
    """Of a dependency that was never called, too."""
    guard.recovered("a")

    async def attempt() -> str:
        return "ok"

    deadline_s = asyncio.get_running_loop().time() + 1000
    assert await guard.call("a", attempt, retry=True, deadline_s=deadline_s) == "ok"
    guard.recovered("a")
    assert await guard.call("a", attempt, retry=False, deadline_s=deadline_s) == "ok"


async def test_a_deadline_in_the_past_still_allows_the_first_attempt(guard: Guard) -> None:
    """Cutting it short is the caller's: the guard only never waits past it."""

    async def attempt() -> str:
        raise RetryableError("down")

    with pytest.raises(RetryableError, match="down"):
        await guard.call("a", attempt, retry=True, deadline_s=0.0)
