"""A whole server whose embedder, vendors and database go away: each answer says what stood in, and all comes back."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import config
from postgres import Cluster
from server import RunningServer, environment, running
from upstream import Upstream, answers, fails, running_upstream

pytestmark = pytest.mark.requirement("RES-3", "SVC-4")

HANDBOOK = """# Handbook

## Maintenance

The pump P-17 is vented every six weeks. The valve V3 is closed before the pump is vented.

## Storage

Spare filters are kept in cabinet 12 on the second floor.
"""
QUESTION = "How often is the pump P-17 vented?"
_ASKED = itertools.count()
BACK_S = 10.0
"""The bar: dependencies are used again this soon after they are back."""
DEADLINE_S = 60.0


def question() -> str:
    """One that was not asked before: vectors of known questions are kept, and found without the embedder."""
    return " ".join([QUESTION, *["please"] * next(_ASKED)])


class World:
    """One server on the session's database, a vendor, and a store with one document."""

    def __init__(self, server: RunningServer, upstream: Upstream) -> None:
        self.server = server
        self.upstream = upstream
        headers = {"authorization": f"Bearer {server.make_key('a')}"}
        self.api = httpx.Client(base_url=server.url, headers=headers, timeout=60)
        self.store_id = self.api.post("/v1/vector_stores", json={"name": "a"}).raise_for_status().json()["id"]
        file_id = self.add(HANDBOOK)
        eventually(lambda: self.status_of(file_id) == "completed", "ingested")
        upstream.on("gpt", answers("It is vented every six weeks [1]."))

    def add(self, text: str) -> str:
        uploaded = self.api.post("/v1/files", files={"file": ("a.md", text)}, data={"purpose": "assistants"})
        file_id = str(uploaded.raise_for_status().json()["id"])
        self.api.post(f"/v1/vector_stores/{self.store_id}/files", json={"file_id": file_id}).raise_for_status()
        return file_id

    def status_of(self, file_id: str) -> str:
        found = self.api.get(f"/v1/vector_stores/{self.store_id}/files/{file_id}").raise_for_status().json()
        assert found["last_error"] is None
        return str(found["status"])

    def ask(self, model: str = "chat", **fields: object) -> httpx.Response:
        messages = [{"role": "user", "content": question()}]
        body = {"model": model, "messages": messages, "vector_store_ids": [self.store_id], **fields}
        return self.api.post("/v1/chat/completions", json=body)

    def mode(self) -> str:
        """Of an answer, which must be one."""
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["x_wattos"]["retrieval"])

    def search(self) -> httpx.Response:
        return self.api.post(f"/v1/vector_stores/{self.store_id}/search", json={"query": question()})

    def health(self) -> dict[str, Any]:
        return dict(self.api.get("/health").json())

    def embedder(self) -> int:
        """The pid of the child."""
        for pid in self.server.children():
            if b"embedder_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError("no embedder")


def eventually(condition: Callable[[], object], what: str, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = asyncio.run(cluster.create_database())
    folder = tmp_path_factory.mktemp("degradation")
    with running_upstream() as upstream:
        models = folder / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        env = environment(
            folder / "data",
            DATABASE_URL=database,
            MODELS_CONFIG=str(models),
            RETRY_INITIAL_DELAY="0",
            RETRIEVAL_EMBED_TIMEOUT_S="1",
            HEALTH_CHECK_INTERVAL_S="1",
        )
        with running(env, folder / "log") as server:
            made = World(server, upstream)
            yield made
            made.api.close()


@contextmanager
def kept_away(world: World) -> Iterator[None]:
    """The embedder is stopped in its tracks whenever there is a new one, and killed in the end."""
    away = True

    def hold() -> None:
        while away:
            with suppress(AssertionError, FileNotFoundError, ProcessLookupError):  # between two of them
                os.kill(world.embedder(), signal.SIGSTOP)
            time.sleep(0.02)

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        yield
    finally:
        away = False
        holding.join()
        os.kill(world.embedder(), signal.SIGKILL)


def test_documents_are_searched_by_words_while_the_embedder_is_away(world: World) -> None:
    """Marked in the answer, its headers and in health; a file uploaded meanwhile waits, and is completed once it is
    back; then vectors are used again.
    """
    assert world.mode() == "vector"
    with kept_away(world):
        eventually(lambda: world.mode() == "text", "noticed")
        answer = world.ask()
        assert answer.json()["x_wattos"] == {"retrieval": "text", "degraded": "retrieval"}
        assert (answer.headers["x-wattos-retrieval"], answer.headers["x-wattos-degraded"]) == ("text", "retrieval")
        (citation,) = answer.json()["choices"][0]["message"]["annotations"]
        assert "six weeks" in citation["quote"]
        found = world.search().raise_for_status().json()
        assert found["x_wattos"] == {"retrieval": "text"}
        assert "six weeks" in found["data"][0]["content"][0]["text"]

        quoted = world.ask("wattos-extractive").json()
        assert "every six weeks" in quoted["choices"][0]["message"]["content"]
        assert quoted["x_wattos"] == {"retrieval": "text", "degraded": "retrieval"}

        world.upstream.on("doomed-1", fails(401))
        world.upstream.on("doomed-2", fails(401))
        doomed = world.ask("doomed").json()
        assert "every six weeks" in doomed["choices"][0]["message"]["content"]
        assert doomed["x_wattos"] == {"retrieval": "text", "degraded": "extractive"}

        file_id = world.add(HANDBOOK.replace("P-17", "P-18"))
        eventually(lambda: "embedder" in world.health()["degraded"], "health says so")
        (check,) = (one for one in world.health()["checks"] if one["name"] == "embedder")
        assert (check["status"], check["meanwhile"][:9]) == ("unhealthy", "documents")
        assert world.status_of(file_id) == "in_progress"
    eventually(lambda: world.mode() == "vector", "used again", within_s=BACK_S + 5)
    eventually(lambda: world.status_of(file_id) == "completed", "the file is ingested")
    eventually(lambda: "embedder" not in world.health()["degraded"], "health says so")


@pytest.mark.parametrize("stream", [False, True])
def test_models_answer_without_documents_while_the_database_is_away(
    world: World, cluster: Cluster, stream: bool
) -> None:
    """The model is told that it knows none, and the answer that it is made without; what cannot be answered without is
    503. Once it is back, documents are searched again.
    """
    assert world.mode() == "vector"
    with cluster.frozen():
        for _ in range(3):
            world.upstream.reset()
            world.upstream.on("gpt", answers("The documents cannot be searched at present."))
            answer = world.ask(stream=stream)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-wattos-retrieval"] == "none"
            assert answer.headers["x-wattos-degraded"] == "retrieval"
            if stream:
                assert '"retrieval":"none"' in answer.text
            else:
                assert answer.json()["x_wattos"] == {"retrieval": "none", "degraded": "retrieval"}
                assert answer.json()["choices"][0]["message"]["annotations"] == []
            (sent,) = world.upstream.to("gpt")
            assert "cannot be searched" in sent.body["messages"][0]["content"]
            assert "six weeks" not in json.dumps(sent.body)
        quoted = world.ask("wattos-extractive", stream=stream)
        assert (quoted.status_code, quoted.json()["error"]["code"]) == (503, "database_unavailable")
        assert world.search().status_code == 503
        report = world.health()
        assert "postgres" in report["degraded"]
        eventually(lambda: world.health()["breakers"]["postgres"] == "open", "nobody waits for it any more")
        began_s = time.monotonic()
        assert world.mode() == "none"
        assert time.monotonic() - began_s < 1, "not waited for"
    thawed_s = time.monotonic()
    eventually(lambda: world.mode() == "vector", "used again", within_s=BACK_S + 5)
    assert time.monotonic() - thawed_s < BACK_S
    assert world.health()["breakers"]["postgres"] == "closed"
