"""The server process: how fast it is there, how it leaves, and what stays when it is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, running_gateway
from server import RunningServer, environment, running, start
from upstream import answers

GRACE_S = 20


def eventually(condition: object, what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {what}")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident_mb(pid: int) -> float:
    (line,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def status_of(server: RunningServer, name: str) -> str:
    checks = httpx.get(f"{server.url}/health", timeout=10).json()["checks"]
    return next(str(c["status"]) for c in checks if c["name"] == name)


def child(server: RunningServer, part: str) -> int | None:
    """The pid of the child whose command line holds `part`."""
    for pid in server.children():
        try:
            if part in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        except FileNotFoundError:
            continue
    return None


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory with a space in its path, whose database is made by the first server."""
    return tmp_path_factory.mktemp("process") / "data with space"


@pytest.fixture
def server(data_dir: Path, tmp_path: Path) -> Iterator[RunningServer]:
    with running(environment(data_dir, SHUTDOWN_GRACE_S=str(GRACE_S)), tmp_path / "log") as ready:
        yield ready


def stream_lines(gateway: Gateway, seen: list[str]) -> None:
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "ping"}]}
    with gateway.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        seen.extend(line for line in response.iter_lines() if line)


def test_an_existing_database_is_served_lean(server: RunningServer, data_dir: Path, tmp_path: Path) -> None:
    """`wattos serve` on an existing database: litellm is not imported, and the process stays under 150 MB."""
    server.stop()
    with running(environment(data_dir), tmp_path / "again") as again:
        with again.admin() as api:
            assert api.get("/v1/models").status_code == 200
        maps = Path(f"/proc/{again.process.pid}/maps").read_text()
        assert "tiktoken" not in maps
        assert "tokenizers" not in maps  # litellm brings both
        assert resident_mb(again.process.pid) < 150


def test_sigterm_lets_a_running_stream_end_and_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM in mid-stream: the stream ends whole, with [DONE]; the exit code is 0, and no child is left."""
    with running_gateway(tmp_path, {"SHUTDOWN_GRACE_S": str(GRACE_S)}) as gateway:
        gateway.upstream.on("gpt", answers("one word after another, " * 8, chunks=40, delay_s=0.1))
        seen: list[str] = []
        reader = threading.Thread(target=stream_lines, args=(gateway, seen))
        reader.start()
        eventually(lambda: len(seen) > 3, "the stream has begun")
        children = gateway.server.children()
        gateway.server.process.send_signal(signal.SIGTERM)
        assert gateway.server.process.wait(GRACE_S + 15) == 0
        reader.join(10)
        assert len(seen) > 40
        assert seen[-1] == "data: [DONE]"
        eventually(lambda: not any(map(is_alive, children)), "all children are gone", within_s=10)


def test_sigkill_leaves_no_orphan_and_loses_no_row(server: RunningServer, data_dir: Path, tmp_path: Path) -> None:
    """kill -9 of the server: every child ends by itself; a new server on the same data finds what was committed."""
    key = server.make_key("survivor")
    children = server.children()
    assert child(server, "postgres") in children
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    with running(environment(data_dir), tmp_path / "again") as again:
        answer = httpx.get(f"{again.url}/v1/files", headers={"authorization": f"Bearer {key}"}, timeout=10)
        assert answer.status_code == 200
        eventually(lambda: not any(map(is_alive, children)), "the old children are gone")


def test_postgres_killed_is_restarted_and_used_again(server: RunningServer) -> None:
    """kill -9 of the embedded postmaster: the server stays up, and serves again by itself."""
    key = server.make_key("patient")
    postmaster = child(server, "pginstall/bin/postgres")
    assert postmaster is not None
    os.kill(postmaster, signal.SIGKILL)

    def works() -> bool:
        answer = httpx.get(f"{server.url}/v1/files", headers={"authorization": f"Bearer {key}"}, timeout=15)
        assert answer.status_code in {200, 503}, answer.text
        return answer.status_code == 200

    eventually(works, "requests are served again")
    assert server.process.poll() is None
    assert httpx.get(f"{server.url}/health/readiness").status_code == 200


@pytest.mark.parametrize(("part", "name"), [("embedder_child", "embedder"), ("model_server_child", "local model")])
def test_a_killed_model_child_is_replaced(server: RunningServer, part: str, name: str) -> None:
    """kill -9 of a child: another takes its place, and health says so meanwhile without failing readiness."""
    eventually(lambda: status_of(server, name) == "healthy", f"{name} is ready")
    before = child(server, part)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually(lambda: child(server, part) not in {None, before}, f"{name} is started again")
    eventually(lambda: status_of(server, name) == "healthy", f"{name} is ready again")
    assert httpx.get(f"{server.url}/health/readiness").status_code == 200


def test_a_database_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    """No stack trace, no password: what is wrong and where to look."""
    env = environment(tmp_path, DATABASE_URL="postgresql://user:hunter2@127.0.0.1:9/db")
    server = start(env, tmp_path / "log")
    assert server.process.wait(30) == 1
    log = server.log.read_text()
    assert "wattos: the database cannot be reached" in log
    assert "Traceback" not in log
    assert "hunter2" not in log
