"""A whole server while a document is read: its children are killed, the document is completed all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from openai.types.vector_stores import VectorStoreFile

from server import RunningServer, environment, running

HANDBOOK = Path(__file__).resolve().parents[2] / "docs" / "de" / "handbuch-anwender.md"
DEADLINE_S = 60.0


def child(server: RunningServer, part: str) -> int:
    """The pid of the child whose command line holds `part`."""
    for pid in server.children():
        try:
            if part in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        except FileNotFoundError:
            continue
    raise AssertionError(f"no child {part}")


@pytest.mark.requirement("SVC-3")
def test_document_survives_its_embedder_and_its_database(tmp_path: Path) -> None:
    """kill -9 of the embedder, then of PostgreSQL, in mid-document: it is completed by itself, with every passage once;
    what a client polls meanwhile is progress that does not go back, or a 503.
    """
    with running(environment(tmp_path / "data"), tmp_path / "log") as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.make_key("reader"), max_retries=0)
        uploaded = client.files.create(file=(HANDBOOK.name, HANDBOOK.read_bytes()), purpose="assistants")
        store = client.vector_stores.create(file_ids=[uploaded.id])
        seen: list[int] = []
        refusals: set[int] = set()

        def until(reached: Callable[[VectorStoreFile, int], bool]) -> int:
            deadline = time.monotonic() + DEADLINE_S
            while time.monotonic() < deadline:
                try:
                    file = client.vector_stores.files.retrieve(uploaded.id, vector_store_id=store.id)
                except openai.InternalServerError as exc:
                    refusals.add(exc.status_code)
                else:
                    assert file.last_error is None
                    progress = file.model_extra["progress"]  # type: ignore[index]
                    seen.append(progress["done"])
                    if reached(file, progress["done"]):
                        return int(progress["total"])
                time.sleep(0.02)
            raise AssertionError(
                f"not within {DEADLINE_S} s; progress was {seen[-1]}\n{server.log.read_text()[-3000:]}"
            )

        until(lambda _file, done: done > 0)
        os.kill(child(server, "embedder_child"), signal.SIGKILL)
        os.kill(child(server, "pginstall/bin/postgres"), signal.SIGKILL)
        n_total = until(lambda file, _done: file.status == "completed")
        assert seen == sorted(seen)
        assert refusals <= {503}
        assert seen[-1] == n_total > 8
        found = client.vector_stores.search(store.id, query="Wie melde ich mich an?", max_num_results=50).data
        starts = [hit.model_extra["start"] for hit in found]  # type: ignore[index]
        assert len(starts) == len(set(starts)) == n_total
        client.close()
