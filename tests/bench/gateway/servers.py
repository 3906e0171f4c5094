"""The processes that are measured: the vendor, `wattos serve` and LiteLLM's proxy, these two with the same file.

All listen on 127.0.0.1, start in a session of their own and are ended by their process id.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from bench.gateway.cases import MODEL, ServerName
from server import ROOT, RunningServer, environment, free_port, running, start

START_TIMEOUT_S = 120.0
"""LiteLLM's proxy takes 15 s on two cores; a cold disk takes longer."""

REFUSAL_TIMEOUT_S = 10.0
"""A server that listens and still answers with something else than 200 after this long will not mend."""

STOP_TIMEOUT_S = 40.0
"""`wattos` waits up to 30 s for running streams."""

POLL_S = 0.01
ANSWER_TIMEOUT_S = 60.0

UNBOUNDED = 1_000_000_000
"""Of a key's limits: set, so that they are checked, and never reached."""


class Measured(msgspec.Struct, frozen=True):
    """A running server, and how to call it."""

    name: ServerName
    pid: int
    port: int
    key: str
    cold_start_s: float
    """From its start to the first 200 of a model call. The database, if any, was there before."""


class FailedToStart(Exception):
    """With the end of the server's log."""


def write_models(path: Path, vendor_port: int, master_key: str) -> None:
    """JSON is YAML. The prices make both compute a cost; `general_settings` is LiteLLM's alone."""
    params = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{vendor_port}/v1",
        "api_key": "sk-upstream",
        "input_cost_per_token": 1.5e-07,
        "output_cost_per_token": 6e-07,
    }
    document = {
        "model_list": [{"model_name": MODEL, "litellm_params": params}],
        "general_settings": {"master_key": master_key},
        "litellm_settings": {"request_timeout": 60, "num_retries": 0},
    }
    path.write_text(json.dumps(document, indent=1))


def ask(port: int, key: str) -> int:
    """One small model call. Returns: its status. Raises: OSError while nobody listens."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": secrets.token_hex(8)}]})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    return answer.status


def until_it_answers(process: subprocess.Popen[bytes], port: int, key: str, log: Path, since: float) -> float:
    """Returns: seconds from `since` (time.monotonic) to the first 200. Raises: FailedToStart."""
    status: int | str = "no connection"
    ends_at, answered_at = since + START_TIMEOUT_S, 0.0
    while time.monotonic() < ends_at and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            status = ask(port, key)
        if status == 200:
            return round(time.monotonic() - since, 3)
        if isinstance(status, int):
            answered_at = answered_at or time.monotonic()
            ends_at = min(ends_at, answered_at + REFUSAL_TIMEOUT_S)
        time.sleep(POLL_S)
    raise FailedToStart(f"{log}: last status {status}, exit code {process.poll()}\n{log.read_text()[-3000:]}")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Generator[subprocess.Popen[bytes]]:
    """SIGTERM at the end, and SIGKILL for its session if that is not enough."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def our_environment() -> dict[str, str]:
    """For the bench's own processes."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT / "tests"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@contextmanager
def vendor(latency_s: float = 0.0) -> Generator[Measured]:
    command = [sys.executable, "-m", "bench.gateway.upstream"]
    env = {**our_environment(), "MOCK_LATENCY_S": str(latency_s)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True)
    with ended(process):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise FailedToStart("the upstream ended at once")
        yield Measured("upstream", process.pid, int(line), "sk-upstream", 0.0)


@contextmanager
def litellm(program: Path, models: Path, key: str, log: Path) -> Generator[Measured]:
    port = free_port()
    command = [str(program.absolute()), "--config", str(models), "--host", "127.0.0.1", "--port", str(port)]
    env = our_environment()
    del env["PYTHONPATH"]
    since = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--num_workers", "1"],
            env=env,
            cwd=models.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with ended(process):
        cold_start_s = until_it_answers(process, port, key, log, since)
        yield Measured("litellm", process.pid, port, key, cold_start_s)


@contextmanager
def wattos(directory: Path, models: Path, log: Path, env: Mapping[str, str]) -> Generator[Measured]:
    """With all plugins, a database of its own, and a key whose limits are set as high as they go.

    It runs twice: first to make its database and the key, then to be measured.
    """
    settings = {"MODELS_CONFIG": str(models), "LOCAL_MODELS_ENABLED": "false", "LOG_LEVEL": "info", **env}
    whole = environment(directory, **settings)
    log.write_bytes(b"")
    with running(whole, log) as server:
        key = make_key(server)
    since = time.monotonic()
    server = start(whole, log)
    with ended(server.process):
        cold_start_s = until_it_answers(server.process, server.port, key, log, since)
        yield Measured("wattos", server.process.pid, server.port, key, cold_start_s)


def make_key(server: RunningServer) -> str:
    """A key of a tenant, limited where this release knows limits."""
    with server.admin() as api:
        tenant = api.post("/api/v1/tenants", json={"name": "bench", "slug": "bench"}).raise_for_status().json()
        made = api.post("/api/v1/keys", json={"tenant_id": tenant["id"], "name": "bench"}).raise_for_status().json()
        limits = {
            "scope": "key",
            "scope_id": made["id"],
            "requests_per_minute": UNBOUNDED,
            "tokens_per_minute": UNBOUNDED,
            "max_concurrency": UNBOUNDED,
        }
        answer = api.put("/api/v1/limits", json=limits)
        if answer.status_code != 404:
            answer.raise_for_status()
        return str(made["key"])
