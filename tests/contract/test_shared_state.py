"""What every `SharedState` keeps. A new implementation is one more row of `STATES`. Its null is None."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from plugins.cache.address import address_of
from plugins.cache.shared import ValkeyState
from plugins.contract.errors import RetryableError
from plugins.contract.ports import SharedState
from valkey_server import ValkeyServer

TIMEOUT_S = 10.0
"""Nothing here is about time."""

STATES: dict[str, Callable[[ValkeyServer], ValkeyState]] = {
    "valkey": lambda server: ValkeyState(address_of(server.url), timeout_s=TIMEOUT_S),
    "valkey-by-name": lambda server: ValkeyState(address_of(f"redis://localhost:{server.port}/3"), timeout_s=TIMEOUT_S),
    "valkey-unix": lambda server: ValkeyState(address_of(f"unix://{server.socket_path}?db=2"), timeout_s=TIMEOUT_S),
}
COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


@pytest.fixture(params=STATES.values(), ids=STATES)
async def state(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[SharedState]:
    made: ValkeyState = request.param(valkey)
    yield made
    await made.close()


@pytest.fixture
def key() -> str:
    """The test's own."""
    return f"test:{uuid.uuid4()}"


async def test_a_script_gets_keys_and_arguments_in_order(state: SharedState, key: str) -> None:
    """Whole numbers too; texts come back as bytes, numbers as numbers, nil as None."""
    script = "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2] + 1, false}"
    reply = await state.run(script, [key, "ü b"], ["a\r\n ", 41])
    assert reply == [key.encode(), "ü b".encode(), b"a\r\n ", 42, None]


@pytest.mark.parametrize(
    ("returned", "reply"),
    [("7", [7]), ("{}", []), ("{7}", [7]), ("nil", [None]), ("'x'", [b"x"]), ("{{1, 'y'}}", [[1, b"y"]])],
)
async def test_whatever_a_script_returns_is_a_sequence(state: SharedState, returned: str, reply: list[object]) -> None:
    """A single value stands in a sequence of one."""
    assert await state.run(f"return {returned}", [], []) == reply


async def test_scripts_run_one_at_a_time_and_their_replies_do_not_mix(state: SharedState, key: str) -> None:
    """Of a thousand at once each gets its own number, and none is lost."""
    script = COUNT.replace("return ", "return {ARGV[2], ") + "}"
    replies = await asyncio.gather(*(state.run(script, [key], [1, f"n{i}"]) for i in range(1000)))
    assert [reply[0] for reply in replies] == [f"n{i}".encode() for i in range(1000)]
    assert sorted(int(str(reply[1])) for reply in replies) == list(range(1, 1001))


@pytest.mark.parametrize("make", STATES.values(), ids=STATES)
async def test_what_is_shared_is_seen_by_others(
    make: Callable[[ValkeyServer], ValkeyState], valkey: ValkeyServer, key: str
) -> None:
    """Two replicas, one number."""
    one, other = make(valkey), make(valkey)
    assert await one.run(COUNT, [key], [5]) == [5]
    assert await other.run(COUNT, [key], [5]) == [10]
    await asyncio.gather(one.close(), other.close())


async def test_a_script_that_fails_is_a_retryable_error_and_nothing_else_suffers(state: SharedState, key: str) -> None:
    """Wrong Lua, a wrong type, an error of the script's own: said without the script's text or its values."""
    for script in ("return (", "return redis.call('LPUSH', KEYS[1], ARGV[1])", "error(ARGV[1])"):
        await state.run("redis.call('SET', KEYS[1], 'x') return {}", [key], [])
        with pytest.raises(RetryableError) as caught:
            await state.run(script, [key], ["s3cret"])
        assert caught.value.message == "Valkey refused the script"
    assert await state.run("return {1}", [], []) == [1]


async def test_a_cancelled_call_leaves_no_reply_behind(state: SharedState) -> None:
    """Whenever it is cancelled: before it is sent, while it runs, when the reply is there."""
    script = "return {ARGV[1]}"
    for turns in range(40):
        call = asyncio.create_task(state.run(script, [], ["cancelled"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await state.run(script, [], [turns]) == [str(turns).encode()]


@pytest.mark.parametrize("kind", [ValkeyState])
def test_the_methods_are_the_ports(kind: type) -> None:
    """Names, parameters and their kinds."""
    port, own = (inspect.signature(of.run).parameters.values() for of in (SharedState, kind))
    assert [(one.name, one.kind) for one in port] == [(one.name, one.kind) for one in own]
