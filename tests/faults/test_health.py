"""Health while a dependency is really frozen or missing."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.database.cluster import Cluster
from server import RunningServer, environment, running

INTERVAL_S, TIMEOUT_S = 0.5, 0.5
FAST = {
    "LOCAL_MODELS_ENABLED": "false",
    "HEALTH_CHECK_INTERVAL_S": str(INTERVAL_S),
    "HEALTH_CHECK_TIMEOUT_S": str(TIMEOUT_S),
    "PLUGINS_SECURITY_KEY_CACHE_MAX_STALE_S": "1",
}

NOTICED_S = INTERVAL_S * 1.1 + TIMEOUT_S
"""When a dependency's loss is known at the latest."""

COVERED_S = 1.0
"""How long known keys are still taken: `PLUGINS_SECURITY_KEY_CACHE_MAX_STALE_S`."""

SLACK_S = 2.0
"""Of a machine that has other things to do."""


def eventually(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def health(server: RunningServer) -> dict[str, object]:
    report: dict[str, object] = httpx.get(f"{server.url}/health", timeout=5).json()
    return report


def readiness(server: RunningServer) -> int:
    return httpx.get(f"{server.url}/health/readiness", timeout=5).status_code


def check(report: dict[str, object], name: str) -> dict[str, object]:
    checks = report["checks"]
    assert isinstance(checks, list)
    (found,) = [one for one in checks if one["name"] == name]
    return dict(found)


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


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("health") / "data"


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[RunningServer]:
    with running(environment(data_dir, **FAST), data_dir.parent / "log") as ready:
        yield ready


@pytest.mark.requirement("OBS-6")
def test_a_frozen_database_degrades_first_and_then_takes_readiness_and_comes_back(
    server: RunningServer, data_dir: Path
) -> None:
    """Noticed within interval and time-out; degraded while the key cache covers it, then not ready; ready when back."""
    eventually(lambda: health(server)["status"] == "healthy", "all is well")
    with frozen_postgres(data_dir):
        began_s = time.monotonic()
        eventually(lambda: health(server)["status"] == "degraded", "noticed", within_s=NOTICED_S + SLACK_S)
        assert readiness(server) == 200, "the key cache covers it"
        eventually(lambda: readiness(server) == 503, "not ready", within_s=COVERED_S + SLACK_S)
        assert time.monotonic() - began_s > COVERED_S
        postgres = check(health(server), "postgres")
        assert (postgres["status"], postgres["critical"]) == ("unhealthy", True)
        assert postgres["message"] == f"no answer within {TIMEOUT_S:g} s"
    # The connection that waited for the frozen server is given up first: see CHECKOUT_TIMEOUT_S.
    eventually(lambda: readiness(server) == 200, "ready again")


@pytest.mark.requirement("OBS-6")
def test_a_probe_never_waits_for_a_dependency(server: RunningServer, data_dir: Path) -> None:
    """With the database frozen it takes as long as without: milliseconds, though the database answers never."""
    paths = ("/health/liveness", "/health/readiness", "/health")
    took_s: dict[str, list[float]] = {path: [] for path in paths}
    with httpx.Client(base_url=server.url) as probe, frozen_postgres(data_dir):
        eventually(lambda: readiness(server) == 503, "not ready")
        for _ in range(100):
            for path in paths:
                began_s = time.monotonic()
                probe.get(path)
                took_s[path].append(time.monotonic() - began_s)
    # About 2 ms with the client's part on an idle machine; the median shrugs off what else runs here.
    assert all(statistics.median(took) < 0.05 for took in took_s.values()), took_s
    eventually(lambda: readiness(server) == 200, "ready again")


@pytest.mark.requirement("OBS-6")
def test_a_queue_without_a_worker_degrades(tmp_path: Path) -> None:
    """Documents would wait for ever: health says so, and chat goes on. However often it is asked, it asks nobody."""
    env = environment(
        tmp_path / "data", **{**FAST, "WORKER_ENABLED": "false", "HEALTH_CHECK_INTERVAL_S": "300", "LOG_LEVEL": "warn"}
    )
    with running(env, tmp_path / "log") as server:
        report = health(server)
        assert report["status"] == "degraded"
        assert str(check(report, "job queue")["message"]).startswith("no worker is alive")
        assert readiness(server) == 200
        before = n_queries(server)
        with httpx.Client(base_url=server.url) as probe:
            for _ in range(200):
                probe.get("/health/readiness")
                probe.get("/health")
        # What is away (the queue) is asked about every second; reading the metrics asks for the queue's depth.
        assert n_queries(server) - before < 100


def n_queries(server: RunningServer) -> float:
    lines = httpx.get(f"{server.url}/health/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("db_queries_total"))
