"""The image, run read-only, without root, in production mode, against a real PostgreSQL.

Run by `make image-test`, which builds it and mounts it at IMAGE_ROOT.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from image.container import CONFIG, ROOT, USER, Container, Process, socket_directory, url_inside
from postgres import Cluster
from server import free_port

ADMIN_KEY = secrets.token_hex(32)
DOCUMENT = "# Handbook\n\nThe pump P-17 is vented every six weeks. The valve V3 is closed before that.\n"
INGESTED_WITHIN_S = 60.0
HEALTHY_WITHIN_S = 30.0
TRY_TO_WRITE = """
import pathlib, sys
for place in sys.argv[1:]:
    try:
        pathlib.Path(place, "written").write_text("x")
        print(place, "ok")
    except OSError as exc:
        print(place, exc.errno)
"""
EROFS = 30
CALL_LITELLM = """
import litellm
said = litellm.completion(model="openai/x", messages=[{"role": "user", "content": "hi"}], mock_response="hello")
print(said.choices[0].message.content)
"""

pytestmark = pytest.mark.requirement("DEL-1")


class Deployment(NamedTuple):
    """A migrated database, a server and a worker on one volume: what the manifests describe."""

    container: Container
    server: Process
    worker: Process
    url: str


@pytest.fixture(scope="module")
async def container(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Container:
    """With an empty database and what `deploy/env/minimal.env` asks for."""
    url = await cluster.create_database(empty=True)
    data = tmp_path_factory.mktemp("data")
    os.chown(data, *map(int, USER.split(":")))
    sockets = socket_directory(url)
    sockets.chmod(0o755)  # a throw-away server, and another user comes in
    for socket in sockets.glob(".s.PGSQL.*"):
        socket.chmod(0o777)
    return Container(data, sockets, {"DATABASE_URL": url_inside(url), "ADMIN_KEY": ADMIN_KEY})


@pytest.fixture(scope="module")
def deployment(container: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Migrated first, as the Job does it; then the image's own command, and its worker."""
    entry, logs = CONFIG["Entrypoint"], tmp_path_factory.mktemp("logs")
    early = container.run(*entry, "serve", "--port", "0")
    assert early.returncode == 1, early.stderr
    assert "wattos db upgrade" in early.stderr
    upgraded = container.run(*entry, "db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert container.run(*entry, "db", "check").returncode == 0
    port = free_port()
    own = {"SHUTDOWN_DELAY_S": "0.5"}
    server_env = {**own, "WORKER_ENABLED": "false", "MANAGEMENT_PORT": str(free_port())}
    worker_env = {**own, "MANAGEMENT_PORT": str(free_port())}
    with (
        container.running(*entry, *CONFIG["Cmd"], "--port", str(port), env=server_env, log=logs / "server") as server,
        container.running(*entry, "worker", env=worker_env, log=logs / "worker") as worker,
    ):
        yield Deployment(container, server, worker, f"http://127.0.0.1:{port}")


def test_the_image_is_made_for_least_privilege() -> None:
    """A numeric user, a health check, no shell in front of the process; nothing of the build, nothing secret in it."""
    assert CONFIG["User"] == USER
    assert (CONFIG["Entrypoint"], CONFIG["Cmd"]) == (["wattos"], ["serve", "--host", "0.0.0.0"])
    assert CONFIG["Healthcheck"]["Test"][0] == "CMD"
    assert CONFIG["StopSignal"] == "SIGTERM"
    assert set(CONFIG["Volumes"]) == {"/data"}
    assert not any(word in line for line in CONFIG["Env"] for word in ("KEY=", "SECRET=", "PASSWORD="))
    assert not (ROOT / "build").exists()
    assert not list((ROOT / "opt/wattos/bin").glob("pip*"))
    assert not any((ROOT / "usr/bin" / name).exists() for name in ("gcc", "cc", "make", "git", "curl"))
    assert not [path for path in ROOT.rglob(".env*") if path.is_file()]


def test_nothing_can_be_written_but_the_volume_and_tmp(container: Container) -> None:
    """The root file system is read-only even for root; user 10001 may write where the image needs it."""
    places = ["/", "/etc", "/opt/wattos", "/var/tmp", "/root"]
    as_root = container.run("python", "-c", TRY_TO_WRITE, *places, user="0:0")
    assert as_root.stdout.splitlines() == [f"{place} {EROFS}" for place in places], as_root.stderr
    as_user = container.run("python", "-c", TRY_TO_WRITE, "/data", "/tmp", "/opt/wattos")
    assert as_user.stdout.splitlines() == ["/data ok", "/tmp ok", f"/opt/wattos {EROFS}"], as_user.stderr


def test_litellm_works_in_the_image(container: Container) -> None:
    """Parts of packages are left out of the image: not these, and nothing has to be fetched or written for it."""
    said = container.run("python", "-c", CALL_LITELLM)
    assert said.stdout.strip() == "hello", said.stderr


@pytest.mark.parametrize("missing", ["ADMIN_KEY", "DATABASE_URL"])
@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("worker",)], ids=["serve", "worker"])
def test_the_image_refuses_to_start_half_configured(
    container: Container, command: tuple[str, ...], missing: str
) -> None:
    """One line that names the variable, and exit code 2: the image is for production."""
    refused = container.run(*CONFIG["Entrypoint"], *command, env={missing: ""})
    assert refused.returncode == 2, refused.stderr
    (line,) = refused.stderr.strip().splitlines()
    assert missing in line


@pytest.mark.requirement("DEL-2")
def test_server_and_worker_answer_over_a_document(deployment: Deployment) -> None:
    """The worker ingests, the server quotes; both are healthy, without root, on a read-only file system."""
    answer = _ask_over_a_document(deployment.url)
    message = answer["choices"][0]["message"]
    assert "every six weeks" in message["content"]
    assert message["annotations"][0]["filename"] == "handbook.md"
    for process in (deployment.server, deployment.worker):
        assert set(process.status("Uid").split()) == {"10001"}
        assert int(process.status("CapEff"), 16) == 0
        mounts = process.mounts()
        assert mounts["/"].startswith("ro")
        assert all(mounts[place].startswith("rw") for place in ("/data", "/tmp"))
        _wait_until_healthy(process)
    report = os.environ.get("IMAGE_REPORT")
    if report:
        lines = [f"{name}: {getattr(deployment, name).resident_bytes() >> 20} MiB\n" for name in ("server", "worker")]
        Path(report).write_text("".join(lines))


def test_the_images_health_check_tells_ready_from_not(deployment: Deployment) -> None:
    """The HEALTHCHECK of the image, run inside it: 0 against a ready server or worker, not 0 against none."""
    check = CONFIG["Healthcheck"]["Test"][1:]
    for process in (deployment.server, deployment.worker):
        there = deployment.container.run(*check, env={"MANAGEMENT_PORT": process.management_url.rsplit(":", 1)[1]})
        assert there.returncode == 0, there.stderr
    nowhere = deployment.container.run(*check, env={"MANAGEMENT_PORT": str(free_port())})
    assert nowhere.returncode != 0


def test_sigterm_ends_both_with_exit_code_0(deployment: Deployment) -> None:
    """The last test of this file: nothing is there to ask any more."""
    assert deployment.server.stop() == 0, deployment.server.log
    assert deployment.worker.stop() == 0, deployment.worker.log


def _ask_over_a_document(url: str) -> Any:
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    with httpx.Client(base_url=url, timeout=30) as api:
        tenant = api.post("/api/v1/tenants", json={"name": "one", "slug": "one"}, headers=admin).raise_for_status()
        made = api.post("/api/v1/keys", json={"tenant_id": tenant.json()["id"], "name": "test"}, headers=admin)
        api.headers["authorization"] = f"Bearer {made.raise_for_status().json()['key']}"
        form = {"files": {"file": ("handbook.md", DOCUMENT)}, "data": {"purpose": "assistants"}}
        file_id = api.post("/v1/files", **form).raise_for_status().json()["id"]  # type: ignore[arg-type]
        made = api.post("/v1/vector_stores", json={"name": "handbooks", "file_ids": [file_id]})
        store_id = made.raise_for_status().json()["id"]
        deadline = time.monotonic() + INGESTED_WITHIN_S
        while (counts := api.get(f"/v1/vector_stores/{store_id}").json()["file_counts"])["completed"] != 1:
            assert counts["failed"] == 0, counts
            assert time.monotonic() < deadline, counts
            time.sleep(0.1)
        body = {
            "model": "wattos-extractive",
            "vector_store_ids": [store_id],
            "messages": [{"role": "user", "content": "How often is the pump P-17 vented?"}],
        }
        return api.post("/v1/chat/completions", json=body).raise_for_status().json()


def _wait_until_healthy(process: Process) -> None:
    """Checks are cached for a second or more. The image holds no weights of a chat model; everything else is there."""
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    while True:
        checks = httpx.get(f"{process.management_url}/health", timeout=5).json()["checks"]
        status = {check["name"]: check["status"] for check in checks}
        assert {"postgres", "embedder", "job queue", "disk"} <= status.keys()
        if {name for name, said in status.items() if said != "healthy"} <= {"local model", "model wattos-local"}:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
