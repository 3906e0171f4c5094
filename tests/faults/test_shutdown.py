"""How a server leaves: readiness first, then the listener, then what still runs; who called in time is answered."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway import Gateway, running_gateway
from server import RunningServer, free_port
from upstream import answers

FAST = {"LOCAL_MODELS_ENABLED": "false", "HEALTH_CHECK_INTERVAL_S": "0.3", "HEALTH_CHECK_TIMEOUT_S": "0.5"}
STREAM_S = 2.5


def eventually(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def readiness(server: RunningServer) -> int:
    return httpx.get(f"{server.operations_url}/health/readiness", timeout=5).status_code


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Call(msgspec.Struct, frozen=True):
    """One call. `outcome`: the status, or the name of what was raised."""

    began_s: float
    outcome: int | str
    says_close: bool = False


class Load:
    """Calls without a pause, until the first one is refused."""

    def __init__(self, gateway: Gateway, *, keeps_connections: bool) -> None:
        self.calls: list[Call] = []
        self._gateway = gateway
        self._keeps = keeps_connections
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=None if self._keeps else 0)
        headers = {"authorization": f"Bearer {self._gateway.key}"}
        body = {"model": "spare", "messages": [{"role": "user", "content": "ping"}]}
        with httpx.Client(base_url=self._gateway.server.url, headers=headers, timeout=20, limits=limits) as client:
            outcome: int | str = 200
            while outcome != "ConnectError":
                began_s = time.monotonic()
                try:
                    answer = client.post("/v1/chat/completions", json=body)
                    outcome, says_close = answer.status_code, answer.headers.get("connection") == "close"
                except httpx.TransportError as exc:
                    outcome, says_close = type(exc).__name__, False
                self.calls.append(Call(began_s, outcome, says_close))


class Stream:
    """One long answer, read as it comes."""

    def __init__(self, gateway: Gateway) -> None:
        self.lines: list[str] = []
        self._gateway = gateway
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        eventually(lambda: len(self.lines) > 2, "the stream has begun")

    def join(self) -> list[str]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.lines

    def _run(self) -> None:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "count"}]}
        try:
            with self._gateway.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
                self.lines.extend(line for line in answer.iter_lines() if line)
        except httpx.TransportError as exc:
            self.lines.append(type(exc).__name__)


@pytest.fixture
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    with running_gateway(tmp_path, {**FAST, "SHUTDOWN_GRACE_S": "20", **request.param}) as running:
        running.upstream.on("gpt", answers("word " * 20, chunks=20, delay_s=STREAM_S / 20))
        running.upstream.on("spare", answers("pong"))
        yield running


@pytest.mark.requirement("OBS-5")
@pytest.mark.parametrize("gateway", [{"SHUTDOWN_DELAY_S": "1"}], indirect=True)
def test_readiness_falls_before_the_listener_and_no_call_is_lost(gateway: Gateway) -> None:
    """Under load, from SIGTERM to the end: readiness is 503 before any connection is refused, every call that was begun
    before is answered, kept connections are told to close, a running stream ends whole, and no process is left."""
    server = gateway.server
    children = server.children()
    stream = Stream(gateway)
    loads = [Load(gateway, keeps_connections=keeps) for keeps in (True, True, False, False)]
    eventually(lambda: all(len(load.calls) > 5 for load in loads), "all call")
    told_s = time.monotonic()
    os.kill(server.process.pid, signal.SIGTERM)
    eventually(lambda: readiness(server) == 503, "readiness fell", within_s=1)
    fell_s = time.monotonic()
    for load in loads:
        load.join()
        *served, refused = load.calls
        assert {call.outcome for call in served} == {200}
        assert refused.began_s > fell_s
        drained = [call for call in served if call.began_s > fell_s]
        assert drained, "calls are taken while readiness is 503"
        assert all(call.says_close for call in drained)
        assert not any(call.says_close for call in served if call.began_s < told_s - 1)
    lines = stream.join()
    assert lines[-1] == "data: [DONE]"
    assert sum("word" in line for line in lines) == 20
    assert server.process.wait(20) == 0
    eventually(lambda: not any(map(is_alive, children)), "all children are gone", within_s=10)


@pytest.mark.requirement("OBS-5")
@pytest.mark.parametrize("gateway", [{"SHUTDOWN_DELAY_S": "60"}], indirect=True)
def test_each_further_signal_ends_a_wait(gateway: Gateway) -> None:
    """Whoever presses Ctrl-C three times does not want to wait: first the delay ends, then what still runs."""
    server, stream = gateway.server, Stream(gateway)
    children = server.children()
    os.kill(server.process.pid, signal.SIGINT)
    eventually(lambda: readiness(server) == 503, "draining", within_s=2)
    assert gateway.ask("spare").status_code == 200
    os.kill(server.process.pid, signal.SIGINT)

    def is_closed() -> bool:
        try:
            return readiness(server) < 0
        except httpx.TransportError:
            return True

    eventually(is_closed, "the listener is closed", within_s=3)
    assert server.process.poll() is None, "a stream is running"
    os.kill(server.process.pid, signal.SIGINT)
    assert server.process.wait(10) == 0
    assert "data: [DONE]" not in stream.join()
    eventually(lambda: not any(map(is_alive, children)), "all children are gone", within_s=10)


@pytest.mark.parametrize("gateway", [{"MANAGEMENT_PORT": str(free_port())}], indirect=True)
def test_the_management_port_answers_until_the_end(gateway: Gateway) -> None:
    """While a stream runs on, the API is closed: probes see a process that is alive, and not ready."""
    server, stream = gateway.server, Stream(gateway)
    os.kill(server.process.pid, signal.SIGTERM)

    def is_closed() -> bool:
        try:
            return httpx.get(server.url).status_code < 0
        except httpx.ConnectError:
            return True

    eventually(is_closed, "the API's listener is closed", within_s=3)
    assert readiness(server) == 503
    assert httpx.get(f"{server.operations_url}/health/liveness").status_code == 200
    assert httpx.get(f"{server.operations_url}/health").json()["draining"] is True
    assert stream.join()[-1] == "data: [DONE]"
    assert server.process.wait(20) == 0
