"""The command `wattos`: one line and exit code 2 for every mistake of the user's, and commands that do their job."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
import pytest

from server import environment, free_port, running, start, wattos


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"PLUGINS_CACHE_ENABLE": "1"}, "did you mean PLUGINS_CACHE_ENABLED?"),
        ({"PLUGINS_CACHE_ENABLED": "ture"}, "PLUGINS_CACHE_ENABLED='ture' is not a switch"),
        ({"MODELS_CONFIG": "/no/such/file.yaml"}, "MODELS_CONFIG=/no/such/file.yaml: there is no such file"),
        ({"MAX_BODY_BYTES": "many"}, "MAX_BODY_BYTES='many'"),
        ({"APP_ENV": "production"}, "APP_ENV=production needs DATABASE_URL"),
        ({"ADMIN_KEY": "short"}, "ADMIN_KEY"),
        (
            {"APP_ENV": "production", "DATABASE_URL": "postgresql:///x", "PLUGINS_SECURITY_ENABLED": "0"},
            "APP_ALLOW_ANONYMOUS=true",
        ),
    ],
)
def test_a_wrong_environment_refuses_to_start(tmp_path: Path, env: dict[str, str], says: str) -> None:
    """One line that names the variable, its value and the remedy; exit code 2; never a secret."""
    done = wattos(environment(tmp_path, **env), "serve", "--port", "0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert "short" not in line


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """The port and the option to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = wattos(environment(tmp_path), "serve", "--port", str(port))
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr


def test_plugins_are_listed_with_their_reason(tmp_path: Path) -> None:
    """What is mounted, and why."""
    done = wattos(environment(tmp_path, PLUGINS_CACHE_ENABLED="0"), "plugins")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "off" in rows["cache"]
    assert "PLUGINS_CACHE_ENABLED=0" in rows["cache"]
    assert "on" in rows["security"]


def test_config_check_shows_chains_and_warns_by_name(tmp_path: Path) -> None:
    """Each alias with its chain; what is not read is named."""
    file = tmp_path / "models.yaml"
    file.write_text(
        """
model_list:
  - model_name: chat
    litellm_params: {model: openai/gpt-4o-mini, api_key: x}
  - model_name: backup
    litellm_params: {model: wattos/local}
litellm_settings: {fallbacks: [{chat: [backup]}], telemetry: false}
"""
    )
    done = wattos(environment(tmp_path), "config", "check", str(file))
    assert done.returncode == 0, done.stderr
    assert "chat: openai/gpt-4o-mini → wattos-local" in done.stdout
    assert "litellm_settings.telemetry" in done.stderr


def test_tenant_and_key_from_the_command_line_open_a_running_server(tmp_path: Path) -> None:
    """`wattos tenants create`, `wattos keys create` beside a running server, on the same embedded database."""
    env = environment(tmp_path / "data")
    with running(env, tmp_path / "log") as server:
        made = wattos(env, "tenants", "create", "school")
        assert made.returncode == 0, made.stderr
        key = wattos(env, "keys", "create", "--tenant", "school", "--model", "wattos-local")
        assert key.returncode == 0, key.stderr
        headers = {"authorization": f"Bearer {key.stdout.strip()}"}
        models = httpx.get(f"{server.url}/v1/models", headers=headers).json()
        assert [m["id"] for m in models["data"]] == ["wattos-local"]
        assert wattos(env, "db", "check").returncode == 0
        unknown = wattos(env, "keys", "create", "--tenant", "nobody")
        assert unknown.returncode == 1
        assert "wattos tenants create nobody" in unknown.stderr
        assert server.process.poll() is None, "a command that joins the database must not stop it"


def test_the_server_is_served_by_any_asgi_server(tmp_path: Path) -> None:
    """`app.asgi:app` is the same app."""
    import subprocess
    import sys

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app.asgi:app", "--port", str(port)],
        env=environment(tmp_path, LOCAL_MODELS_ENABLED="false"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        transport = httpx.HTTPTransport(retries=8)
        with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/health/readiness").status_code == 200
    finally:
        process.terminate()
        process.wait(30)


def test_every_plugin_off_still_serves(tmp_path: Path) -> None:
    """All off: anonymous callers of the default tenant, no request id, no metrics; the answer is the same."""
    off = {f"PLUGINS_{name}_ENABLED": "false" for name in ("OBSERVABILITY", "SECURITY", "RESILIENCE", "CACHE")}
    with running(environment(tmp_path / "data", **off), tmp_path / "log") as server:
        made = httpx.post(f"{server.url}/v1/vector_stores", json={"name": "open"})
        assert made.status_code == 200
        assert "x-request-id" not in made.headers
        assert httpx.get(f"{server.url}/health/metrics").status_code == 404
        body = {
            "model": "wattos-extractive",
            "vector_store_ids": [made.json()["id"]],
            "messages": [{"role": "user", "content": "Is anything here?"}],
        }
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200
        assert answer.headers["x-wattos-target"] == "wattos-extractive"
        assert answer.headers["x-wattos-cache"] == "off"
        assert not any(p["enabled"] for p in httpx.get(f"{server.url}/plugins").json()["data"])


def test_production_on_a_database_that_was_not_upgraded_says_so(tmp_path: Path, empty_database_url: str) -> None:
    """Production does not migrate by itself: one line names the command, which then works."""
    env = environment(tmp_path, APP_ENV="production", DATABASE_URL=empty_database_url, LOCAL_MODELS_ENABLED="0")
    server = start(env, tmp_path / "log")
    assert server.process.wait(30) == 1
    assert "wattos db upgrade" in server.log.read_text()
    assert wattos(env, "db", "upgrade").returncode == 0
    with running(env, tmp_path / "log2") as ready:
        deadline = time.monotonic() + 20  # the worker has to be seen in the queue, too
        while httpx.get(f"{ready.url}/health").json()["status"] != "healthy":
            assert time.monotonic() < deadline
