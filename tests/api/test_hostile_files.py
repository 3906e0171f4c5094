"""Documents that mean harm, on a real server with its worker: each ends with its stable reason and leaves nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.knowledge.ingestion.errors import BY_CODE
from documents.hostile import ALL
from postgres import Cluster
from server import RunningServer, environment, running

PARSE_TIMEOUT_S = 20
PARSE_MEMORY_BYTES = 512 * 1024 * 1024
DEADLINE_S = 120.0
"""All documents together take about 20 s on two cores."""

GOOD = b"# Pump\n\nThe pump runs at twelve bar."


class Victim:
    """A tenant whose one store gets every document, and a good one last; all have ended."""

    def __init__(self, server: RunningServer, url: str, objects: Path) -> None:
        self.server = server
        self.url = url
        self.objects = objects
        self.http = httpx.Client(
            base_url=f"{server.url}/v1", headers={"authorization": f"Bearer {server.make_key('victim')}"}, timeout=60
        )
        self.store_id = str(self._json(self.http.post("/vector_stores", json={}))["id"])
        self.ids = {name: self.add(hostile.filename, hostile.data()) for name, hostile in ALL.items()}
        self.good = self.add("good.md", GOOD)
        self.highest_memory_mb = 0.0
        self.files: dict[str, dict[str, Any]] = {}
        self._wait()

    def add(self, filename: str, data: bytes) -> str:
        sent = {"files": {"file": (filename, data)}, "data": {"purpose": "assistants"}}
        file_id = str(self._json(self.http.post("/files", **sent))["id"])  # type: ignore[arg-type]
        self._json(self.http.post(f"/vector_stores/{self.store_id}/files", json={"file_id": file_id}))
        return file_id

    def store(self) -> dict[str, Any]:
        return self._json(self.http.get(f"/vector_stores/{self.store_id}"))

    def text(self, file_id: str) -> httpx.Response:
        return self.http.get(f"/vector_stores/{self.store_id}/files/{file_id}/content")

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """As the superuser that the embedded server's URL is: policies do not apply."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def _wait(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while (store := self.store())["status"] != "completed":
            assert time.monotonic() < deadline, (store, self.server.log.read_text()[-3000:])
            status = Path(f"/proc/{self.server.process.pid}/status").read_text()
            resident_kb = next(row.split()[1] for row in status.splitlines() if row.startswith("VmRSS"))
            self.highest_memory_mb = max(self.highest_memory_mb, int(resident_kb) / 1024)
            time.sleep(0.05)
        for file_id in (*self.ids.values(), self.good):
            self.files[file_id] = self._json(self.http.get(f"/vector_stores/{self.store_id}/files/{file_id}"))

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@pytest.fixture(scope="module")
async def hostile_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
async def hostile_server(
    hostile_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RunningServer, Path]]:
    folder = tmp_path_factory.mktemp("hostile")
    env = environment(
        folder / "data",
        DATABASE_URL=hostile_url,
        PARSE_TIMEOUT_S=str(PARSE_TIMEOUT_S),
        PARSE_MEMORY_BYTES=str(PARSE_MEMORY_BYTES),
    )
    with running(env, folder / "log") as server:
        yield server, folder / "data" / "files"


@pytest.fixture(scope="module")
def victim(hostile_server: tuple[RunningServer, Path], hostile_url: str) -> Iterator[Victim]:
    server, objects = hostile_server
    made = Victim(server, hostile_url, objects)
    yield made
    made.http.close()


@pytest.mark.parametrize("name", [name for name, hostile in ALL.items() if hostile.reason])
def test_hostile_document_is_refused_with_its_reason(victim: Victim, name: str) -> None:
    """A stable reason, a sentence for the one who uploaded it, and neither text nor passages."""
    file_id = victim.ids[name]
    file = victim.files[file_id]
    assert (file["status"], file["usage_bytes"]) == ("failed", 0)
    error = file["last_error"]
    assert error["reason"] == ALL[name].reason
    assert error["code"] in {"unsupported_file", "invalid_file"}
    assert error["message"].endswith(".")
    assert "Traceback" not in error["message"]
    assert "/" not in error["message"], "no path of ours"
    refused = victim.text(file_id)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_ingested")


@pytest.mark.parametrize("name", [name for name, hostile in ALL.items() if hostile.reason is None])
def test_odd_document_that_means_no_harm_is_read(victim: Victim, name: str) -> None:
    """What only looks dangerous, or is so in a part that is never opened."""
    file_id = victim.ids[name]
    file = victim.files[file_id]
    assert (file["status"], file["last_error"]) == ("completed", None)
    assert file["progress"]["done"] == file["progress"]["total"] > 0
    assert victim.text(file_id).json()["data"][0]["text"].startswith(ALL[name].text)


@pytest.mark.requirement("SVC-3")
def test_worker_goes_on_with_the_next_document(victim: Victim) -> None:
    """The good document behind all others is read and found, and the store's counts are right."""
    assert victim.files[victim.good]["status"] == "completed"
    n_failed = sum(hostile.reason is not None for hostile in ALL.values())
    n_read = len(ALL) - n_failed + 1
    counts = {"in_progress": 0, "cancelled": 0, "failed": n_failed, "completed": n_read, "total": len(ALL) + 1}
    assert victim.store()["file_counts"] == counts
    found = victim.http.post(f"/vector_stores/{victim.store_id}/search", json={"query": "How many bar has the pump?"})
    assert found.json()["data"][0]["file_id"] == victim.good


@pytest.mark.requirement("SVC-3")
def test_nothing_of_a_refused_document_is_stored(victim: Victim) -> None:
    """Neither text nor passages in the database, no job that would try again, no bytes without a file."""
    read = {victim.ids[name] for name, hostile in ALL.items() if hostile.reason is None} | {victim.good}
    for table in ("documents", "chunks"):
        ids = {f"file_{file_id.hex}" for (file_id,) in victim.rows(f"select distinct file_id from {table}")}
        assert ids == read
    assert victim.rows("select count(*) from jobs.procrastinate_jobs") == [(0,)]
    assert victim.rows("select count(*) from loose_objects") == [(0,)]
    names = {path.name for path in victim.objects.rglob("*") if path.is_file()}
    assert names == {file_id.hex for (file_id,) in victim.rows("select id from files")}


def test_server_stays_small_and_leaves_no_parser_behind(victim: Victim) -> None:
    """What the documents would unpack to is never in the server's own memory, and no child of theirs is left."""
    assert victim.highest_memory_mb < 400
    commands = [Path(f"/proc/{pid}/cmdline") for pid in victim.server.children()]
    assert not any(b"parse_process_child" in path.read_bytes() for path in commands if path.exists())
    assert '"level":50' not in victim.server.logged()


def test_deleting_takes_every_trace(victim: Victim) -> None:
    """Bytes, text and passages; last, as it empties the store."""
    for file_id in (victim.ids["10,000 pages"], victim.ids["owner's password"], victim.good):
        assert victim.http.delete(f"/files/{file_id}").json()["deleted"]
        name = file_id.removeprefix("file_")
        assert not any(name in path.name for path in victim.objects.rglob("*"))
        for table, column in (("files", "id"), ("documents", "file_id"), ("chunks", "file_id")):
            assert victim.rows(f"select count(*) from {table} where {column} = %s", name) == [(0,)]
    assert victim.rows("select count(*) from loose_objects") == [(0,)]
    assert victim.store()["file_counts"]["total"] == len(ALL) - 2


def test_every_reason_is_driven_by_a_document() -> None:
    """The documented set and these documents are the same: no reason is only promised."""
    assert {hostile.reason for hostile in ALL.values()} - {None} == set(BY_CODE)
