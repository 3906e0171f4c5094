"""Valkey killed, frozen, slow, full, restarted: each call ends in time, and no reply reaches another's call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from plugins.cache.address import address_of
from plugins.cache.shared import MAX_CONNECTIONS, ValkeyState
from plugins.contract.errors import RetryableError
from plugins.contract.nulls import NullSlowLog
from slow_proxy import slow_proxy
from unit.plugins.harness import RecordingMeter
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("OBS-6")

ECHO = "return {ARGV[1]}"
TIMEOUT_S = 0.5
"""Of calls that should run into it, and of those beside them that should not, on a machine that is busy."""
LONG_S = 20.0
"""Of calls that should not."""
AWAY = "Valkey cannot be reached"
SILENT = "Valkey does not answer in time"


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """The test's own."""
    with running_valkey() as running:
        yield running


@asynccontextmanager
async def opened(url: str, timeout_s: float = LONG_S) -> AsyncIterator[ValkeyState]:
    state = ValkeyState(address_of(url), timeout_s=timeout_s)
    try:
        yield state
    finally:
        await state.close()


async def failure(state: ValkeyState, script: str = ECHO, word: str = "lost") -> str:
    """What the error says."""
    with pytest.raises(RetryableError) as caught:
        await state.run(script, ["key"], [word])
    return caught.value.message


async def echoed(state: ValkeyState, words: Sequence[str]) -> list[Sequence[object]]:
    return await asyncio.gather(*(state.run(ECHO, [], [word]) for word in words))


def calls(server: ValkeyServer, command: str) -> int:
    """How often the server was asked for it since it started."""
    stats = server.command("INFO", "commandstats").splitlines()
    line = next((line for line in stats if line.startswith(f"cmdstat_{command}:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_a_frozen_server_costs_the_time_out_and_its_late_replies_go_nowhere(server: ValkeyServer) -> None:
    """More calls than connections, all given up; thawed, the server answers them, and nobody takes that for his."""
    words = [f"after {i}" for i in range(2 * MAX_CONNECTIONS)]
    async with opened(server.url, TIMEOUT_S) as state:
        await echoed(state, ["warm"] * MAX_CONNECTIONS)
        server.freeze()
        began_s = time.monotonic()
        lost = [state.run(ECHO, [], [f"lost {i}"]) for i in range(2 * MAX_CONNECTIONS)]
        failures = await asyncio.gather(*lost, return_exceptions=True)
        assert {str(error) for error in failures} == {SILENT}
        assert time.monotonic() - began_s < 10 * TIMEOUT_S
        server.thaw()
        assert await echoed(state, words) == [[word.encode()] for word in words]


async def test_who_stops_waiting_for_a_frozen_server_leaves_nothing_to_the_next(server: ValkeyServer) -> None:
    """Cancelled in the middle of a call; the very next calls, on the same client, get their own replies."""
    async with opened(server.url) as state:
        await echoed(state, ["warm"] * MAX_CONNECTIONS)
        server.freeze()
        waiting = [asyncio.create_task(state.run(ECHO, [], ["lost"])) for _ in range(MAX_CONNECTIONS)]
        await asyncio.wait(waiting, timeout=0.05)
        for call in waiting:
            call.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended)
        server.thaw()
        words = [f"after {i}" for i in range(100)]
        assert await echoed(state, words) == [[word.encode()] for word in words]


async def test_a_reply_that_comes_too_late_is_not_the_next_calls(server: ValkeyServer) -> None:
    """It is on its way when the call is given up, and arrives: at a connection that nobody uses any more."""
    async with slow_proxy(server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}", TIMEOUT_S) as state:
        assert await state.run(ECHO, [], ["before"]) == [b"before"]
        proxy.let_replies_through.clear()
        assert await failure(state, word="late") == SILENT
        assert proxy.n_held > 0
        proxy.let_replies_through.set()
        assert await state.run(ECHO, [], ["after"]) == [b"after"]


async def test_a_slow_reply_is_waited_for_until_the_deadline(server: ValkeyServer) -> None:
    """Meanwhile other calls have connections of their own."""
    async with slow_proxy(server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as state:
        proxy.let_replies_through.clear()
        slow = [asyncio.create_task(state.run(ECHO, [], [f"slow {i}"])) for i in range(3)]
        await asyncio.wait_for(proxy.held.wait(), LONG_S)
        assert not any(call.done() for call in slow)
        proxy.let_replies_through.set()
        assert await asyncio.gather(*slow) == [[f"slow {i}".encode()] for i in range(3)]


async def test_a_killed_server_is_noticed_at_once_and_used_again_once_it_is_back(server: ValkeyServer) -> None:
    """Nobody waits for a time-out; empty on the same port, it is told the scripts anew, once each."""
    async with opened(server.url) as state:
        assert await state.run(ECHO, [], ["before"]) == [b"before"]
        server.kill()
        for _ in range(3):
            assert await failure(state) == AWAY
        server.restart()
        assert await state.run(ECHO, [], ["after"]) == [b"after"]
        assert await state.run(ECHO, [], ["again"]) == [b"again"]
        assert (calls(server, "evalsha"), calls(server, "eval")) == (2, 1)


async def test_a_restart_between_two_calls_costs_none(server: ValkeyServer) -> None:
    """Idle connections that the other side has ended are not used."""
    async with opened(server.url) as state:
        await echoed(state, ["warm"] * MAX_CONNECTIONS)
        server.restart()
        words = [str(i) for i in range(2 * MAX_CONNECTIONS)]
        assert await echoed(state, words) == [[word.encode()] for word in words]


async def test_connections_that_were_reset_while_idle_are_not_used(server: ValkeyServer) -> None:
    """As a firewall or a balancer does it: no error reaches the next call."""
    async with slow_proxy(server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as state:
        for n_calls in (1, MAX_CONNECTIONS):
            await echoed(state, ["warm"] * n_calls)
            await proxy.reset_all()
            words = [str(i) for i in range(2 * MAX_CONNECTIONS)]
            assert await echoed(state, words) == [[word.encode()] for word in words]


async def test_scripts_that_the_server_forgot_are_sent_again(server: ValkeyServer) -> None:
    """NOSCRIPT is no error."""
    async with opened(server.url) as state:
        await state.run(ECHO, [], ["a"])
        server.command("SCRIPT", "FLUSH")
        assert await state.run(ECHO, [], ["b"]) == [b"b"]


async def test_wrong_credentials_are_said_without_showing_them() -> None:
    """A wrong password, none, a user who may not run scripts. The right ones work, whatever signs they have."""
    with running_valkey(password="p:@/ ü?#%") as server:
        server.command("ACL", "SETUSER", "reader", "on", ">r/w", "~*", "+get", "+select")
        server.command("ACL", "SETUSER", "limits", "on", ">l@w", "~*", "+eval", "+evalsha", "+select")
        at = f"127.0.0.1:{server.port}"
        for url in (f"redis://:not-this-one@{at}", f"redis://{at}", f"redis://reader:r%2Fw@{at}"):
            async with opened(url) as state:
                assert await failure(state) == "Valkey refuses our credentials"
        for url in (server.url, f"redis://limits:l%40w@{at}/1", f"unix://limits:l%40w@{server.socket_path}"):
            async with opened(url) as state:
                assert await state.run(ECHO, [], ["in"]) == [b"in"]


async def test_a_full_server_says_so() -> None:
    """With `noeviction` a script that writes fails, and what is there stays."""
    with running_valkey(settings={"maxmemory": "3mb", "maxmemory-policy": "noeviction"}) as server:
        async with opened(server.url) as state:
            fill = "redis.call('SET', KEYS[1] .. ARGV[1], string.rep('x', 500000)) return {}"
            fills = [await asyncio.gather(state.run(fill, ["fill"], [i]), return_exceptions=True) for i in range(20)]
            assert "Valkey has no memory left" in {str(result) for (result,) in fills}
            assert await state.run("return redis.call('EXISTS', KEYS[1])", ["fill0"], []) == [1]


async def test_a_primary_that_became_a_replica_is_left(server: ValkeyServer) -> None:
    """After a failover: its connections are not kept, since its name may mean another server by now."""
    count = "return redis.call('INCR', KEYS[1])"
    async with opened(server.url) as state:
        await state.run(count, ["n"], [])
        server.command("REPLICAOF", "127.0.0.1", "1")
        before = calls(server, "evalsha")
        assert await failure(state, count) == "Valkey refused the script"
        server.command("REPLICAOF", "NO", "ONE")
        assert await state.run(count, ["n"], []) == [2]
        assert calls(server, "evalsha") > before


async def test_a_name_that_cannot_be_looked_up_hangs_one_thread_and_no_call() -> None:
    """The look-up cannot be ended: all who wait share it, each until its own deadline."""
    asked: list[str] = []
    never = asyncio.Event()

    async def hanging(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        await never.wait()
        return ()

    state = ValkeyState(address_of("redis://valkey.invalid"), timeout_s=TIMEOUT_S, resolve=hanging)
    try:
        failures = await asyncio.gather(*(failure(state) for _ in range(50)))
        assert set(failures) == {SILENT}
        assert asked == ["valkey.invalid"]
    finally:
        await state.close()


async def test_closing_ends_a_look_up_and_those_who_wait_for_it_are_not_cancelled() -> None:
    """They get the error that they reckon with."""
    never = asyncio.Event()
    asked = asyncio.Event()

    async def hanging(_: str, __: int) -> Sequence[str]:
        asked.set()
        await never.wait()
        return ()

    state = ValkeyState(address_of("redis://valkey.invalid"), timeout_s=LONG_S, resolve=hanging)
    waiting = asyncio.create_task(failure(state))
    await asyncio.wait_for(asked.wait(), LONG_S)
    await state.close()
    assert await waiting == AWAY


async def test_a_name_that_does_not_exist_is_away_and_looked_up_again(server: ValkeyServer) -> None:
    """Each new connection asks for the name, so it follows where the name points."""
    answers: list[Sequence[str]] = [(), ("127.0.0.1",)]

    async def resolve(host: str, _: int) -> Sequence[str]:
        if not (found := answers.pop(0)):
            raise OSError(host)
        return found

    url = server.url.replace("127.0.0.1", "valkey.test")
    state = ValkeyState(address_of(url), timeout_s=LONG_S, resolve=resolve)
    try:
        assert await failure(state) == AWAY
        assert await state.run(ECHO, [], ["found"]) == [b"found"]
    finally:
        await state.close()


async def test_every_call_is_counted_by_its_result(server: ValkeyServer) -> None:
    """`valkey_operations_total{operation,result}`; what runs at closing time still ends well."""
    meter = RecordingMeter()
    async with opened(server.url, TIMEOUT_S) as state:
        state.observe_with(meter, NullSlowLog())
        await state.run(ECHO, [], ["x"])
        await state.probe()
        await failure(state, "return (")
        server.freeze()
        await failure(state)
        server.kill()
        await failure(state)
        with pytest.raises(RetryableError):
            await state.probe()
        server.restart()
        await state.close()
        await state.run(ECHO, [], ["closed"])
    name = "valkey_operations_total"
    assert meter.total == {
        (name, "run", "ok"): 2,
        (name, "probe", "ok"): 1,
        (name, "run", "refused"): 1,
        (name, "run", "timeout"): 1,
        (name, "run", "unreachable"): 1,
        (name, "probe", "unreachable"): 1,
    }
