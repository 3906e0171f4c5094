"""The local models' processes die, freeze, or lose their parent. Real children, real weights."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import openai
import pytest

from app.local_models.child_process import SOURCE_ROOT
from app.local_models.embedder import LIMITS, LocalEmbedder
from app.local_models.errors import EmbedderUnavailable, LocalModelUnavailable
from app.local_models.model_server import MODEL, LocalModelServer
from app.local_models.supervisor import Phase, RestartPolicy
from app.local_models.weights import pull
from unit.app.local_models.support import MODELS_DIR, alive, eventually

SLOW_CALL = ["Der Dienstwagen darf auch privat genutzt werden, wenn das Büro zustimmt. " * 20] * 4
"""A few seconds of work for the embedder."""

PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from app.local_models.embedder import LocalEmbedder
from app.local_models.model_server import LocalModelServer
from app.local_models.supervisor import Phase

async def main():
    leave = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, leave.set)
    embedder, server = LocalEmbedder(env=os.environ), LocalModelServer(Path(sys.argv[1]), env=os.environ)
    await embedder.start()
    await server.start()
    while not embedder.state.phase is server.state.phase is Phase.READY:
        await asyncio.sleep(0.01)
    print(embedder.state.pid, server.state.pid, flush=True)
    await leave.wait()
    await server.stop()
    await embedder.stop()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.fixture(scope="module")
def weights() -> Path:
    return pull(MODELS_DIR)


@contextmanager
def parent_process(weights: Path, loop: str) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A parent in a session of its own. Yields: it, and its children's process ids."""
    command = [sys.executable, "-W", "error", "-c", PARENT, str(weights), loop]
    env = {**os.environ, "PYTHONPATH": str(SOURCE_ROOT)}
    pids: list[int] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            pids += map(int, process.stdout.readline().split())
            assert len(pids) == 2
            yield process, pids
        finally:
            process.kill()
            for pid in filter(alive, pids):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_children_are_gone_when_their_parent_is_killed(weights: Path, loop: str) -> None:
    """SIGKILL leaves the parent no last word: the children leave by themselves."""
    with parent_process(weights, loop) as (process, pids):
        process.kill()
        process.wait()
        await eventually(lambda: not any(map(alive, pids)), "the children are gone", 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_children_end_with_their_parent_when_the_whole_group_is_signalled(weights: Path, number: int) -> None:
    """Ctrl-C, or a group-wide SIGTERM: the parent ends with 0 and without noise, and nothing stays."""
    with parent_process(weights, "uvloop") as (process, pids):
        os.killpg(process.pid, number)
        assert await asyncio.to_thread(process.wait, 10) == 0
        assert not any(map(alive, pids))


async def test_embedder_survives_its_child_being_killed() -> None:
    """kill -9 while a call is in the child: the caller gets its rows, only later."""
    embedder = LocalEmbedder(env=os.environ)
    await embedder.start()
    try:
        await embedder.embed(["bereit"], "query")
        first = embedder.state.pid
        assert first is not None
        call = asyncio.create_task(embedder.embed(SLOW_CALL, "passage"))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        assert len(await call) == len(SLOW_CALL)
        assert len(await embedder.embed(["danach"], "query")) == 1
        assert embedder.state.restarts == 1
        assert embedder.state.last_error == "was killed by SIGKILL"
        assert embedder.state.pid != first
        assert not alive(first)
    finally:
        await embedder.stop()


async def test_embedder_gives_up_a_call_that_was_in_two_crashes() -> None:
    """What may be the cause of the crashes is not tried for ever: a retryable error says so."""
    embedder = LocalEmbedder(env=os.environ)
    await embedder.start()
    try:
        call = asyncio.create_task(embedder.embed(SLOW_CALL, "passage"))
        for crashes in range(2):
            await eventually(
                lambda n=crashes: embedder.state.restarts == n and embedder.state.phase is Phase.READY,  # type: ignore[misc]  # mypy: lambda default
                "the child works on the call",
            )
            assert embedder.state.pid is not None
            os.kill(embedder.state.pid, signal.SIGKILL)
        with pytest.raises(EmbedderUnavailable, match="crashed twice") as given_up:
            await call
        assert given_up.value.retryable
    finally:
        await embedder.stop()


async def test_embedder_says_at_once_that_it_is_down_when_the_next_start_is_far() -> None:
    """A child that keeps crashing must not hold every request until its deadline."""
    embedder = LocalEmbedder(env=os.environ, policy=RestartPolicy(initial_delay_s=30))
    await embedder.start()
    try:
        await embedder.embed(["bereit"], "query")
        waiting = asyncio.create_task(embedder.embed(SLOW_CALL, "passage"))
        await asyncio.sleep(0)
        assert embedder.state.pid is not None
        os.kill(embedder.state.pid, signal.SIGKILL)
        for call in (waiting, embedder.embed(["danach"], "query")):
            with pytest.raises(EmbedderUnavailable, match="was killed by SIGKILL; it is started again in") as down:
                await call
            assert down.value.retry_after_s == pytest.approx(30, abs=1)
    finally:
        await embedder.stop()


NICE = """
import asyncio, os
from pathlib import Path
from app.local_models.embedder import LocalEmbedder

async def main():
    embedder = LocalEmbedder(env=os.environ)
    await embedder.start()
    await embedder.embed(["Frage"], "query")
    await embedder.embed(["Absatz"], "passage")
    threads = Path(f"/proc/{embedder.state.pid}/task").iterdir()
    print(min(os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in threads), embedder.state.restarts)
    await embedder.stop()

asyncio.run(main())
"""


def test_embedder_works_for_whoever_runs_it_nicely() -> None:
    """`nice -n 10 wattos serve`: no lane asks for more than it was given (an ordinary user may not), each answers."""
    niceness = min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
    command = ["nice", "-n", "10", sys.executable, "-c", NICE]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == [str(niceness), "0"]


async def test_embedder_replaces_a_frozen_child() -> None:
    """A process that is alive but never answers is as bad as a dead one."""
    limits = {**LIMITS, "urgent": msgspec.structs.replace(LIMITS["urgent"], batch_timeout_s=0.5)}
    embedder = LocalEmbedder(env=os.environ, limits=limits)
    await embedder.start()
    try:
        await embedder.embed(["bereit"], "query")
        assert embedder.state.pid is not None
        os.kill(embedder.state.pid, signal.SIGSTOP)
        assert len(await embedder.embed(["danach"], "query")) == 1
        assert embedder.state.restarts == 1
    finally:
        await embedder.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_model_server_survives_its_child_being_killed_or_frozen(weights: Path, number: int) -> None:
    """It is replaced; until then the error says so, and the new one answers at its new address."""
    server = LocalModelServer(weights, env=os.environ, probe_interval_s=0.3)
    await server.start()
    try:
        await eventually(lambda: server.state.phase is Phase.READY, "it is ready")
        first = server.state.pid
        assert first is not None
        os.kill(first, number)
        await eventually(lambda: server.state.phase is Phase.BACKOFF, "the fault is seen")
        with pytest.raises(LocalModelUnavailable) as down:
            server.endpoint()
        assert down.value.retryable
        await eventually(lambda: server.state.phase is Phase.READY, "it is ready again")
        assert not alive(first)
        endpoint = server.endpoint()
        async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0) as client:
            done = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
            )
        assert done.choices
    finally:
        await server.stop()
