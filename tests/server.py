"""A real `wattos serve` in a process of its own, for tests that need sockets, signals or a death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ADMIN_KEY = "admin-key-of-the-tests-k3v9x2m7q8w1b5z"
"""Strong enough for production mode."""
ROOT = Path(__file__).resolve().parents[1]
MODELS_DIR = ROOT / ".data" / "models"
"""Where `make test` and `make demo` pull the weights to, once."""

START_TIMEOUT_S = 60.0
LOGGED_WITHIN_S = 10.0


class RunningServer:
    """A server process and what a test needs to talk to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log: Path, management_port: int | None = None
    ) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.operations_url = f"http://127.0.0.1:{management_port or port}"
        self.log = log

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"server ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            try:
                if httpx.get(f"{self.operations_url}/health/readiness", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"server not ready:\n{self.log.read_text()[-4000:]}")

    def admin(self) -> httpx.Client:
        """A client of the platform administrator."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)

    def make_key(self, slug: str, **fields: object) -> str:
        """An API key of the tenant with this slug, which is made if need be."""
        with self.admin() as api:
            made = api.post("/api/v1/tenants", json={"name": slug, "slug": slug})
            if made.status_code == 409:
                tenants = api.get("/api/v1/tenants", params={"limit": 100}).json()["data"]
                tenant_id = next(t["id"] for t in tenants if t["slug"] == slug)
            else:
                tenant_id = made.raise_for_status().json()["id"]
            body = {"tenant_id": tenant_id, "name": "test", **fields}
            return str(api.post("/api/v1/keys", json=body).raise_for_status().json()["key"])

    def logged(self) -> str:
        """The log so far. A thread writes it, some time after what it tells of: once a request's own line is there."""
        marker = f"logged-{time.monotonic_ns()}"
        httpx.get(f"{self.operations_url}/health/liveness", headers={"x-request-id": marker}, timeout=10)
        deadline = time.monotonic() + LOGGED_WITHIN_S
        while marker not in (text := self.log.read_text()):
            assert time.monotonic() < deadline, "the log has no line of a request"
            time.sleep(0.02)
        return text

    def children(self) -> list[int]:
        """Pids of all its descendants."""
        found = [self.process.pid]
        for pid in found:
            try:
                found += [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except FileNotFoundError:
                continue
        return found[1:]

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, then its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def environment(data_dir: Path, **env: str) -> dict[str, str]:
    """The environment of a server under test: nothing of ours leaks in but the path."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "DATA_DIR": str(data_dir),
        "MODELS_DIR": str(MODELS_DIR),
        "ADMIN_KEY": ADMIN_KEY,
        **env,
    }


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(env: Mapping[str, str], log: Path, *arguments: str) -> RunningServer:
    """Start `wattos serve` on a free port; it is not waited for."""
    port = free_port()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(port), *arguments],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    management_port = env.get("MANAGEMENT_PORT")
    return RunningServer(process, port, log, int(management_port) if management_port else None)


@contextmanager
def running(env: Mapping[str, str], log: Path, *arguments: str) -> Iterator[RunningServer]:
    """A ready server while the context is open. Its whole process group is gone afterwards."""
    server = start(env, log, *arguments)
    try:
        server.wait_until_ready()
        yield server
        server.stop()
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


def wattos(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one `wattos` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], env=dict(env), capture_output=True, text=True, timeout=120
    )
