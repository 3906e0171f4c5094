"""Whole processes end in mid-document: the server with everything in it, or a `wattos worker` beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import openai
import psycopg
import pytest

from server import RunningServer, environment, running

HANDBOOK = Path(__file__).resolve().parents[2] / "docs" / "de" / "handbuch-anwender.md"
DEADLINE_S = 60.0
GRACE_S = 15.0
"""A worker's to end: WORKER_GRACE_S, its children's, and a busy machine's share."""

Progress = Mapping[str, object]


class Reader:
    """A tenant who uploaded one document, and watches it being read."""

    def __init__(self, server: RunningServer) -> None:
        self.key = server.make_key("reader")
        client = self._client(server)
        self.file_id = client.files.create(file=(HANDBOOK.name, HANDBOOK.read_bytes()), purpose="assistants").id
        self.store_id = client.vector_stores.create(file_ids=[self.file_id]).id
        self.seen: list[int] = []
        client.close()

    def until(self, server: RunningServer, reached: Callable[[str, Progress], bool]) -> Progress:
        """Poll as a client does; progress never goes back. Returns: the last of it."""
        client = self._client(server)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            file = client.vector_stores.files.retrieve(self.file_id, vector_store_id=self.store_id)
            assert file.last_error is None
            progress: dict[str, object] = file.model_extra["progress"]  # type: ignore[index]
            self.seen.append(int(str(progress["done"])))
            assert self.seen == sorted(self.seen)
            if reached(file.status, progress):
                client.close()
                return progress
            time.sleep(0.02)
        raise AssertionError(f"not within {DEADLINE_S} s: {progress}\n{server.log.read_text()[-3000:]}")

    def starts(self, server: RunningServer) -> list[int]:
        """Where the passages begin that a search finds."""
        client = self._client(server)
        found = client.vector_stores.search(self.store_id, query="Wie melde ich mich an?", max_num_results=50).data
        client.close()
        return [hit.model_extra["start"] for hit in found]  # type: ignore[index]

    def _client(self, server: RunningServer) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=self.key, max_retries=0, timeout=30)


def has_begun(status: str, progress: Progress) -> bool:
    return status == "in_progress" and int(str(progress["done"])) > 0


def is_complete(status: str, _progress: Progress) -> bool:
    return status == "completed"


@contextmanager
def worker(env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`wattos worker` in a process of its own. Its whole process group is gone afterwards."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "worker"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.requirement("SVC-3")
def test_document_of_a_killed_server_is_finished_by_the_next(tmp_path: Path) -> None:
    """kill -9 of `wattos serve` in mid-document, embedded PostgreSQL and all: started again on the same DATA_DIR, it
    goes on by itself; nothing is lost, nothing is there twice.
    """
    env = environment(tmp_path / "data")
    with running(env, tmp_path / "log") as server:
        reader = Reader(server)
        reader.until(server, has_begun)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    with running(env, tmp_path / "again") as server:
        total = reader.until(server, is_complete)["total"]
        starts = reader.starts(server)
    assert reader.seen[-1] == total
    assert len(starts) == len(set(starts)) == total


@pytest.mark.requirement("SVC-3")
def test_worker_of_its_own_does_the_servers_jobs(database_url: str, tmp_path: Path) -> None:
    """`WORKER_ENABLED=false`: the server only enqueues. A worker beside it that is killed in mid-document loses
    nothing; the next one completes it, and leaves with 0 on SIGTERM.
    """
    env = environment(tmp_path / "data", DATABASE_URL=database_url, WORKER_ENABLED="false")
    with running(env, tmp_path / "log") as server:
        reader = Reader(server)
        assert reader.until(server, lambda *_: True) == {"stage": "queued", "done": 0, "total": 0}
        with worker(env, tmp_path / "worker") as first:
            reader.until(server, has_begun)
            first.kill()
            first.wait()
        with worker(env, tmp_path / "worker") as second:
            total = reader.until(server, is_complete)["total"]
            second.terminate()
            assert second.wait(GRACE_S) == 0
        assert len(reader.starts(server)) == total
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select ordinal from chunks order by ordinal").fetchall()
        assert [ordinal for (ordinal,) in rows] == list(range(int(str(total))))
        assert connection.execute("select count(*) from jobs.procrastinate_jobs").fetchone() == (0,)
