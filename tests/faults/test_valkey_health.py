"""A server whose Valkey is away at start, comes, is frozen and killed: it serves all the while, and says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import RunningServer, environment, running
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("OBS-6")

PASSWORD = "hunter2-of-the-valkey-tests"
DEADLINE_S = 20.0
"""Far over interval and time-out: a machine has other things to do."""


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """Down: its port is known, and nobody listens there."""
    with running_valkey(password=PASSWORD) as server:
        server.kill()
        yield server


@pytest.fixture
def server(tmp_path: Path, valkey: ValkeyServer) -> Iterator[RunningServer]:
    env = environment(
        tmp_path / "data",
        VALKEY_URL=valkey.url,
        LOCAL_MODELS_ENABLED="false",
        HEALTH_CHECK_INTERVAL_S="0.5",
        LOG_LEVEL="debug",
    )
    with running(env, tmp_path / "log") as ready:
        yield ready


def awaited(server: RunningServer, message: str | None) -> None:
    """Until the check says so, the process is ready, and the whole is degraded: or healthy, with None."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        report = httpx.get(f"{server.url}/health", timeout=5).json()
        (check,) = [one for one in report["checks"] if one["name"] == "valkey"]
        assert check["critical"] is False
        assert httpx.get(f"{server.url}/health/readiness", timeout=5).status_code == 200
        if check.get("message") == message and report["status"] == ("degraded" if message else "healthy"):
            return
        assert time.monotonic() < deadline, check
        time.sleep(0.05)


def test_a_valkey_that_comes_and_goes_is_reported_and_takes_nothing_down(
    server: RunningServer, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Ready without it from the start; `health_check_status`, `valkey_operations_total`; no password in the log."""
    awaited(server, "Valkey cannot be reached")
    valkey.restart()
    awaited(server, None)
    valkey.freeze()
    awaited(server, "Valkey does not answer in time")
    valkey.thaw()
    awaited(server, None)
    valkey.kill()
    awaited(server, "Valkey cannot be reached")
    metrics = httpx.get(f"{server.url}/health/metrics", timeout=5).text
    assert 'health_check_status{check="valkey"} 0.0' in metrics
    for result in ("ok", "timeout", "unreachable"):
        assert f'valkey_operations_total{{operation="probe",result="{result}"}}' in metrics
    assert PASSWORD not in (tmp_path / "log").read_text()
    assert str(valkey.port) not in httpx.get(f"{server.url}/health", timeout=5).text
