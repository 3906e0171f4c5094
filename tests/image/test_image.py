"""The image, entered as an orchestrator would run it: read-only, without root, against a real PostgreSQL.

Run by `make image-test`, which builds it and mounts it at IMAGE_ROOT. There is no container engine here: a mount
namespace with a read-only bind mount, chroot, and a numeric user are what an engine does, too.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import free_port

ROOT = Path(os.environ["IMAGE_ROOT"])
CONFIG = json.loads(Path(os.environ["IMAGE_JSON"]).read_text())["Docker"]["config"]
USER = "10001:10001"

ENTER = """
set -eu
mount --make-rprivate /
mount --bind "$IMAGE_ROOT" "$IMAGE_ROOT"
mount -o remount,bind,ro "$IMAGE_ROOT"
mount -t tmpfs -o mode=1777 tmpfs "$IMAGE_ROOT/tmp"
mount --bind "$DATA" "$IMAGE_ROOT/data"
mount --rbind /dev "$IMAGE_ROOT/dev"
mount -t proc proc "$IMAGE_ROOT/proc"
mkdir -p "$IMAGE_ROOT/tmp/pg"
mount --bind "$SOCKETS" "$IMAGE_ROOT/tmp/pg"
exec chroot --userspec="$RUN_AS" "$IMAGE_ROOT" "$@"
"""


class Container:
    """How to run the image's entry point with an environment and a volume."""

    def __init__(self, data: Path, sockets: Path) -> None:
        self._mounts = {"IMAGE_ROOT": str(ROOT), "DATA": str(data), "SOCKETS": str(sockets), "RUN_AS": USER}

    def command(self, env: dict[str, str], *arguments: str) -> list[str]:
        image_env = dict(line.split("=", 1) for line in CONFIG["Env"])
        pairs = [f"{name}={value}" for name, value in {**image_env, **env}.items()]
        outside = [f"{name}={value}" for name, value in self._mounts.items()]
        inner = ["/usr/bin/env", "-i", *pairs, *arguments]
        return ["env", *outside, "unshare", "--mount", "sh", "-c", ENTER, "enter", *inner]

    def wattos(self, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.command(env, *CONFIG["Entrypoint"], *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def container(tmp_path: Path, database_url: str) -> Container:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 10001, 10001)
    sockets = _socket_dir(database_url)
    sockets.chmod(0o755)  # a throw-away server, and another user comes in
    for socket in sockets.glob(".s.PGSQL.*"):
        socket.chmod(0o777)
    return Container(data, sockets)


@pytest.fixture
def env(database_url: str) -> dict[str, str]:
    """What `deploy/env/minimal.env` asks for."""
    inside = database_url.replace(str(_socket_dir(database_url)).replace("/", "%2F"), "%2Ftmp%2Fpg")
    inside = inside.replace(str(_socket_dir(database_url)), "/tmp/pg")
    return {"DATABASE_URL": inside, "ADMIN_KEY": secrets.token_hex(32)}


def _socket_dir(url: str) -> Path:
    from sqlalchemy.engine import make_url

    host = make_url(url).query.get("host")
    assert isinstance(host, str)
    return Path(host)


@pytest.fixture
def served(container: Container, env: dict[str, str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The image's own command, but for its port, and its address; it is ready."""
    port = free_port()
    command = container.command(env, *CONFIG["Entrypoint"], *CONFIG["Cmd"], "--port", str(port))
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health/readiness", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.requirement("DEL-1")
def test_the_image_is_made_for_least_privilege() -> None:
    """A numeric user, a health check, no shell in front of the process, nothing secret among its variables."""
    assert CONFIG["User"] == USER
    assert CONFIG["Entrypoint"] == ["wattos"]
    assert CONFIG["Healthcheck"]["Test"][0] == "CMD"
    assert CONFIG["StopSignal"] == "SIGTERM"
    assert not any(word in line for line in CONFIG["Env"] for word in ("KEY=", "SECRET=", "PASSWORD="))
    assert not (ROOT / "build").exists() or not any((ROOT / "build").iterdir())
    assert not list((ROOT / "opt/wattos/bin").glob("pip*"))


@pytest.mark.requirement("DEL-1")
def test_the_image_serves_read_only_and_without_root(
    served: tuple[subprocess.Popen[bytes], str], env: dict[str, str]
) -> None:
    """In production mode: health by its own check, a tenant, a key, a call; SIGTERM ends with exit code 0."""
    process, url = served
    admin = {"authorization": f"Bearer {env['ADMIN_KEY']}"}
    made = httpx.post(f"{url}/api/v1/tenants", json={"name": "one", "slug": "one"}, headers=admin)
    body = {"tenant_id": made.raise_for_status().json()["id"], "name": "test"}
    key = httpx.post(f"{url}/api/v1/keys", json=body, headers=admin).raise_for_status().json()["key"]
    vectors = _embedded(url, key)
    assert len(vectors) == 384
    (worker_pid,) = [pid for pid in _descendants(process.pid) if b"wattos\0serve" in _cmdline(pid)][-1:]
    status = Path(f"/proc/{worker_pid}/status").read_text()
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
    process_root = Path(f"/proc/{worker_pid}/root")
    mounts = Path(f"/proc/{worker_pid}/mountinfo").read_text()
    assert any(line.split()[4] == "/" and line.split()[5].startswith("ro") for line in mounts.splitlines())
    assert process_root.exists()
    os.kill(worker_pid, signal.SIGTERM)
    assert process.wait(30) == 0


def _embedded(url: str, key: str) -> list[float]:
    """The embedder needs some seconds to be there."""
    deadline = time.monotonic() + 60
    while True:
        answer = httpx.post(
            f"{url}/v1/embeddings",
            json={"model": "wattos-embed", "input": "Guten Tag"},
            headers={"authorization": f"Bearer {key}"},
            timeout=30,
        )
        if answer.status_code == 200 or time.monotonic() > deadline:
            found: list[float] = answer.raise_for_status().json()["data"][0]["embedding"]
            return found
        time.sleep(0.5)


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.requirement("DEL-1")
def test_the_images_health_check_tells_ready_from_not(
    served: tuple[subprocess.Popen[bytes], str], container: Container, env: dict[str, str]
) -> None:
    """The HEALTHCHECK of the image, run inside it: 0 against a ready server, not 0 against none."""
    _, url = served
    check = CONFIG["Healthcheck"]["Test"][1:]
    port = url.rsplit(":", 1)[1]
    there = container.command({**env, "MANAGEMENT_PORT": port}, *check)
    assert subprocess.run(there, capture_output=True, timeout=20, check=False).returncode == 0
    nowhere = container.command({**env, "MANAGEMENT_PORT": str(free_port())}, *check)
    assert subprocess.run(nowhere, capture_output=True, timeout=20, check=False).returncode != 0


def test_migrations_run_from_the_image(container: Container, env: dict[str, str]) -> None:
    """`wattos db upgrade` as a job, before servers start; `db check` agrees."""
    upgraded = container.wattos(env, "db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert container.wattos(env, "db", "check").returncode == 0


@pytest.mark.parametrize(
    ("missing", "named"), [("ADMIN_KEY", "ADMIN_KEY"), ("DATABASE_URL", "DATABASE_URL")], ids=lambda v: v
)
def test_the_image_refuses_to_start_half_configured(
    container: Container, env: dict[str, str], missing: str, named: str
) -> None:
    """One line and exit code 2: the image is for production."""
    refused = container.wattos({**env, missing: ""}, "serve", "--port", "0")
    assert refused.returncode == 2, refused.stderr
    assert named in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
