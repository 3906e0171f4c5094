"""Health, metrics and plugins on a listener of their own; what they say to anyone who asks."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, running_gateway
from server import ADMIN_KEY, ROOT, environment, free_port, running, wattos
from upstream import API_KEY, fails

OPERATIONS = ["/health/liveness", "/health/readiness", "/health", "/health/metrics", "/plugins"]


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway with a management port, and that port's address."""
    port = free_port()
    env = {
        "MANAGEMENT_PORT": str(port),
        "LOCAL_MODELS_ENABLED": "false",
        "HEALTH_CHECK_INTERVAL_S": "0.2",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1",
        "RETRY_MAX_ATTEMPTS": "1",
    }
    with running_gateway(tmp_path_factory.mktemp("managed"), env) as gateway:
        yield gateway, f"http://127.0.0.1:{port}"


@pytest.mark.requirement("OBS-5")
@pytest.mark.parametrize("path", OPERATIONS)
def test_operations_are_served_on_the_management_port_alone(managed: tuple[Gateway, str], path: str) -> None:
    """With MANAGEMENT_PORT the API's port knows nothing of them, in the shape of every other unknown path."""
    gateway, management = managed
    assert httpx.get(f"{management}{path}").status_code == 200
    hidden = httpx.get(f"{gateway.server.url}{path}")
    assert hidden.status_code == 404
    assert hidden.headers["content-type"].startswith("application/problem+json")
    assert hidden.json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/tenants", "/v1/files", "/schema/openapi.json"])
def test_the_api_is_not_served_on_the_management_port(managed: tuple[Gateway, str], path: str) -> None:
    """Not even with a valid credential: a port that is open to a cluster's monitoring opens nothing else."""
    gateway, management = managed
    for key in (gateway.key, ADMIN_KEY):
        refused = httpx.get(f"{management}{path}", headers={"authorization": f"Bearer {key}"})
        assert refused.status_code == 404


@pytest.mark.requirement("OBS-6")
def test_a_target_that_is_away_degrades_and_is_named(managed: tuple[Gateway, str]) -> None:
    """Its breaker says so, no vendor is called for it; one that is away keeps no one from being ready."""
    gateway, management = managed
    gateway.upstream.on("gpt", fails(503))
    n_before = len(gateway.upstream.requests)
    assert gateway.ask("chat").status_code == 502
    deadline = time.monotonic() + 10
    while httpx.get(f"{management}/health").json()["status"] != "degraded":
        assert time.monotonic() < deadline
    report = httpx.get(f"{management}/health").json()
    away = {check["name"]: check for check in report["checks"] if check["status"] == "unhealthy"}
    assert "model openai/gpt" in away
    assert away["model openai/gpt"]["critical"] is False
    assert httpx.get(f"{management}/health/readiness").status_code == 200
    assert len(gateway.upstream.requests) == n_before + 1


@pytest.mark.requirement("OBS-6")
def test_targets_are_named_to_the_administrator_alone(tmp_path: Path) -> None:
    """Beside the API anyone may ask: how many models are away, yes; their names only with the administrator's key."""
    env = {"LOCAL_MODELS_ENABLED": "false", "PLUGINS_OBSERVABILITY_ENABLED": "false"}
    with running_gateway(tmp_path, env) as gateway, gateway.server.admin() as administrator:

        def names(client: httpx.Client) -> set[str]:
            return {check["name"] for path in ("/health", "/health/readiness") for check in asked(client, path)}

        def asked(client: httpx.Client, path: str) -> list[dict[str, str]]:
            report = client.get(path).json()
            assert report["targets"]["total"] > 5
            checks: list[dict[str, str]] = report["checks"]
            return checks

        with gateway.http() as tenant, gateway.http(key="sk-wattos-nonsense") as nobody:
            for client in (tenant, nobody):
                assert names(client) == {"postgres", "job queue", "disk"}
        assert "model openai/gpt" in names(administrator)
        assert administrator.get("/health/metrics").status_code == 404  # observability is off, and health is not


def test_health_shows_no_secret_and_no_address(managed: tuple[Gateway, str]) -> None:
    """Names, states and times: no host, no key, no path, no text of an exception."""
    gateway, management = managed
    for path in OPERATIONS:
        text = httpx.get(f"{management}{path}").text
        for secret in (ADMIN_KEY, gateway.key, API_KEY, gateway.upstream.url, str(gateway.server.log.parent)):
            assert secret not in text, path


@pytest.mark.requirement("OBS-5")
def test_each_check_has_its_response_time_and_is_a_metric(managed: tuple[Gateway, str]) -> None:
    """In the report, and as `health_check_duration_ms{check}` and `health_status`."""
    _, management = managed
    report = httpx.get(f"{management}/health").json()
    names = [check["name"] for check in report["checks"]]
    assert {"postgres", "job queue", "disk"} <= set(names)
    assert all(check["response_time_ms"] >= 0 and check["age_s"] >= 0 for check in report["checks"])
    metrics = httpx.get(f"{management}/health/metrics").text
    assert "\nhealth_status " in metrics
    assert all(f'health_check_duration_ms_count{{check="{name}"}}' in metrics for name in names)


def test_a_management_port_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """The API's own port, or one that is taken: one line, exit code 2."""

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = wattos(environment(tmp_path, MANAGEMENT_PORT=port), "serve", "--port", "0")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "MANAGEMENT_PORT" in refused.stderr
    own = str(free_port())
    refused = wattos(environment(tmp_path, MANAGEMENT_PORT=own), "serve", "--port", own)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "own port" in refused.stderr


@pytest.mark.requirement("OBS-5")
def test_a_worker_serves_its_health_on_the_management_port(tmp_path: Path) -> None:
    """For Kubernetes' probes; nothing else is there."""
    port = free_port()
    env = environment(tmp_path, MANAGEMENT_PORT=str(port), LOCAL_MODELS_ENABLED="false")

    log = (tmp_path / "worker.log").open("wb")
    worker = subprocess.Popen([sys.executable, "-m", "app.cli", "worker"], env=env, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline
            assert worker.poll() is None, (tmp_path / "worker.log").read_text()
            try:
                report = httpx.get(f"http://127.0.0.1:{port}/health").json()
            except httpx.TransportError:
                continue
            if report["status"] == "healthy":
                break
        assert {check["name"] for check in report["checks"]} == {"postgres", "job queue", "disk"}
        assert "job_queue_depth" in httpx.get(f"http://127.0.0.1:{port}/health/metrics").text
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 404
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    assert all(line["level"] <= 40 for line in lines)


@pytest.mark.requirement("OBS-6")
def test_without_a_management_port_operations_are_beside_the_api(tmp_path: Path) -> None:
    """The default: one port, and probes need no credential. The guide's table names every check and its weight."""
    with running(environment(tmp_path), tmp_path / "log") as server:
        for path in OPERATIONS:
            assert httpx.get(f"{server.url}{path}").status_code == 200
        checks = httpx.get(f"{server.url}/health").json()["checks"]
        assert all("targets" in httpx.get(f"{server.url}{path}").json() for path in ("/health", "/health/readiness"))
    page = (ROOT / "docs" / "HEALTH.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (yes|no) \|", page, flags=re.M)
    assert {(c["name"], "yes" if c["critical"] else "no") for c in checks} == {
        row
        for row in rows
        if row[0] not in {"model …", "valkey"}  # not there without VALKEY_URL
    }
