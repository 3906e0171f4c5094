"""Health while a dependency is really frozen or gone, and while the process leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.database.cluster import Cluster
from gateway import running_gateway
from server import RunningServer, environment, running
from upstream import answers

FAST = {"LOCAL_MODELS_ENABLED": "false", "HEALTH_CHECK_INTERVAL_S": "0.3", "HEALTH_CHECK_TIMEOUT_S": "0.5"}


def eventually(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def ready(server: RunningServer) -> int:
    return httpx.get(f"{server.url}/health/readiness", timeout=5).status_code


@contextmanager
def frozen_postgres(data_dir: Path) -> Iterator[None]:
    """All of the embedded server stops in its tracks, and goes on afterwards."""
    postmaster = Cluster(data_dir).running_pid()
    assert postmaster is not None
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    pids = [postmaster, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.requirement("OBS-6")
def test_a_frozen_database_is_told_without_waiting_for_it(tmp_path: Path) -> None:
    """Probes answer at once, whatever hangs: alive all the time, not ready soon, and ready again."""
    with running(environment(tmp_path / "data", **FAST), tmp_path / "log") as server, httpx.Client() as probe:
        with frozen_postgres(tmp_path / "data"):
            slowest_s = 0.0

            def is_unhealthy() -> bool:
                nonlocal slowest_s
                began_s = time.monotonic()
                status = probe.get(f"{server.url}/health/readiness", timeout=5).status_code
                slowest_s = max(slowest_s, time.monotonic() - began_s)
                return status == 503

            eventually(is_unhealthy, "not ready")
            report = probe.get(f"{server.url}/health").json()
            (postgres,) = [check for check in report["checks"] if check["name"] == "postgres"]
            assert postgres["message"] == "no answer within 0.5 s"
            assert probe.get(f"{server.url}/health/liveness").status_code == 200
            # The database would answer after minutes; a probe is given up after one second by default.
            assert slowest_s < 1
        eventually(lambda: ready(server) == 200, "ready again")


@pytest.mark.requirement("OBS-5")
def test_readiness_falls_before_the_listener_and_no_call_is_lost(tmp_path: Path) -> None:
    """From SIGTERM on readiness is 503, and calls are answered until the delay is over; a running stream ends whole."""
    env = {**FAST, "SHUTDOWN_DELAY_S": "2", "SHUTDOWN_GRACE_S": "20"}
    with running_gateway(tmp_path, env) as gateway:
        gateway.upstream.on("gpt", answers("one two three four five six", chunks=6, delay_s=0.6))
        gateway.upstream.on("spare", answers("pong"))
        texts: list[str] = []

        def stream() -> None:
            chunks = gateway.openai().chat.completions.create(
                model="chat", messages=[{"role": "user", "content": "count"}], stream=True
            )
            texts.extend(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

        streaming = threading.Thread(target=stream)
        streaming.start()
        eventually(lambda: bool(texts), "the stream began")
        os.kill(gateway.server.process.pid, signal.SIGTERM)
        eventually(lambda: ready(gateway.server) == 503, "readiness fell", within_s=1)
        assert httpx.get(f"{gateway.server.url}/health").json()["draining"] is True
        n_answered = 0
        while True:
            try:
                answer = gateway.ask("spare")
            except httpx.ConnectError:  # the listener is closed: no call was begun
                break
            assert answer.status_code == 200
            n_answered += 1
        assert n_answered > 10
        streaming.join(20)
        assert "".join(texts) == "one two three four five six"
        assert gateway.server.process.wait(20) == 0


def test_a_second_signal_ends_the_delay(tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice does not want to wait."""
    env = environment(tmp_path / "data", **FAST, SHUTDOWN_DELAY_S="60")
    with running(env, tmp_path / "log") as server:
        os.kill(server.process.pid, signal.SIGTERM)
        eventually(lambda: ready(server) == 503, "draining", within_s=2)
        began_s = time.monotonic()
        assert server.process.poll() is None
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert time.monotonic() - began_s < 20


@pytest.mark.requirement("OBS-6")
def test_a_queue_without_a_worker_degrades(tmp_path: Path) -> None:
    """Documents would wait for ever: health says so, and chat goes on."""
    with running(environment(tmp_path / "data", **FAST, WORKER_ENABLED="false"), tmp_path / "log") as server:
        report = httpx.get(f"{server.url}/health").json()
        assert report["status"] == "degraded"
        (queue,) = [check for check in report["checks"] if check["name"] == "job queue"]
        assert queue["message"].startswith("no worker is alive")
        assert ready(server) == 200
