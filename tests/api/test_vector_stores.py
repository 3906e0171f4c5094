"""`/v1/vector_stores` from a client's side: a real server, the official SDK, two tenants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import openai
import pytest
from openai.types import VectorStore
from openai.types.vector_stores import VectorStoreFile

from postgres import Cluster
from server import RunningServer, environment, running

HANDBOOK = """# Wartung 🐞

## Pumpe

Die Pumpe P-17 wird alle sechs Wochen entlüftet. Dabei wird das Ventil V3 geschlossen.

## Lager

Ersatzfilter liegen im Schrank 12 im zweiten Stock und werden nach 400 Stunden gewechselt.
"""
QUESTION = "How often is the pump vented?"
POLL_MS = 50
LEVEL_WARN = 40
"""Of pino."""


class Tenant:
    """A tenant's clients: the official one, and a plain one to see what is on the wire."""

    def __init__(self, server: RunningServer, slug: str) -> None:
        key = server.make_key(slug)
        self.openai = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=60)
        self.http = httpx.Client(
            base_url=f"{server.url}/v1", headers={"authorization": f"Bearer {key}"}, timeout=60, follow_redirects=False
        )

    def close(self) -> None:
        self.openai.close()
        self.http.close()

    def upload(self, content: str, name: str = "wartung.md") -> str:
        return self.openai.files.create(file=(name, content.encode()), purpose="assistants").id

    def filled(self, content: str = HANDBOOK, name: str = "wartung.md") -> tuple[VectorStore, VectorStoreFile]:
        store = self.openai.vector_stores.create(name="Handbücher")
        file = self.openai.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=(name, content.encode()), poll_interval_ms=POLL_MS
        )
        return store, file


@pytest.fixture(scope="module")
async def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    folder = tmp_path_factory.mktemp("vector-stores")
    env = environment(folder / "data", DATABASE_URL=await cluster.create_database())
    with running(env, folder / "log") as ready:
        yield ready


@pytest.fixture(scope="module")
def tenant(server: RunningServer) -> Iterator[Tenant]:
    made = Tenant(server, "owner")
    yield made
    made.close()


@pytest.fixture(scope="module")
def stranger(server: RunningServer) -> Iterator[Tenant]:
    made = Tenant(server, "stranger")
    yield made
    made.close()


@pytest.fixture(scope="module")
def filled(tenant: Tenant) -> tuple[VectorStore, VectorStoreFile]:
    return tenant.filled()


def error(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    body: dict[str, dict[str, object]] = response.json()
    assert body["error"].keys() == {"message", "type", "code", "param"}
    return body["error"]


@pytest.mark.requirement("SVC-3")
def test_upload_and_poll_ends_completed_with_progress(filled: tuple[VectorStore, VectorStoreFile]) -> None:
    """The official client's own polling; `progress` is our extension."""
    _, file = filled
    assert (file.object, file.status, file.last_error) == ("vector_store.file", "completed", None)
    assert file.usage_bytes > 0
    progress = file.model_extra["progress"]  # type: ignore[index]
    assert progress["stage"] == "done"
    assert progress["done"] == progress["total"] > 0


def test_create_and_poll_takes_an_uploaded_file(tenant: Tenant) -> None:
    """With attributes, which the file and every hit in it carry."""
    store = tenant.openai.vector_stores.create()
    attributes: dict[str, str | float | bool] = {"lang": "de", "year": 2026, "draft": False}
    file = tenant.openai.vector_stores.files.create_and_poll(
        tenant.upload(HANDBOOK), vector_store_id=store.id, attributes=attributes, poll_interval_ms=POLL_MS
    )
    assert (file.status, file.attributes) == ("completed", attributes)
    hits = tenant.openai.vector_stores.search(store.id, query=QUESTION).data
    assert hits[0].attributes == attributes


@pytest.mark.requirement("SVC-4")
def test_search_across_languages_finds_the_exact_passage(
    tenant: Tenant, filled: tuple[VectorStore, VectorStoreFile]
) -> None:
    """The real embedder: an English question finds the German passage first; the wire is OpenAI's."""
    store, file = filled
    page = tenant.http.post(f"/vector_stores/{store.id}/search", json={"query": QUESTION}).raise_for_status().json()
    assert (page["object"], page["search_query"]) == ("vector_store.search_results.page", [QUESTION])
    assert (page["has_more"], page["next_page"]) == (False, None)
    best = page["data"][0]
    assert (best["file_id"], best["filename"], best["attributes"]) == (file.id, "wartung.md", {})
    assert [part["type"] for part in best["content"]] == ["text"]
    assert "alle sechs Wochen" in best["content"][0]["text"]
    assert 0.5 < best["score"] <= 1
    stored = tenant.openai.vector_stores.files.content(file.id, vector_store_id=store.id).data[0].text
    assert stored is not None
    assert stored[best["start"] : best["end"]] == best["content"][0]["text"]


def test_search_takes_several_queries_and_bounds(tenant: Tenant, filled: tuple[VectorStore, VectorStoreFile]) -> None:
    """A list of queries is one search; `max_num_results` and `score_threshold` are kept."""
    store, _ = filled
    both = tenant.openai.vector_stores.search(store.id, query=[QUESTION, "Wo liegen die Ersatzfilter?"])
    assert [hit.score for hit in both.data] == sorted((hit.score for hit in both.data), reverse=True)
    assert len(tenant.openai.vector_stores.search(store.id, query=QUESTION, max_num_results=1).data) == 1
    none = tenant.openai.vector_stores.search(store.id, query=QUESTION, ranking_options={"score_threshold": 0.999})
    assert none.data == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": QUESTION, "filters": {"type": "eq", "key": "lang", "value": "de"}}, "filters"),
        ({"query": QUESTION, "max_num_results": 51}, "max_num_results"),
        ({"query": "  "}, "query"),
        ({"query": []}, "query"),
        ({"query": ["x"] * 17}, "query"),
        ({"query": 7}, "query"),
    ],
)
def test_search_that_cannot_be_done_names_the_field(
    tenant: Tenant, filled: tuple[VectorStore, VectorStoreFile], body: dict[str, object], param: str
) -> None:
    """400 in OpenAI's shape, never a search for something else than was asked."""
    store, _ = filled
    assert error(tenant.http.post(f"/vector_stores/{store.id}/search", json=body), 400)["param"] == param


def test_store_is_counted_changed_listed_and_deleted(tenant: Tenant) -> None:
    """The life of a store, in the official client's types."""
    file_id = tenant.upload(HANDBOOK)
    made = tenant.openai.vector_stores.create(name="one", file_ids=[file_id], metadata={"team": "a"})
    assert (made.object, made.status, made.name, made.metadata) == ("vector_store", "in_progress", "one", {"team": "a"})
    assert (made.file_counts.in_progress, made.file_counts.total) == (1, 1)
    tenant.openai.vector_stores.files.poll(file_id, vector_store_id=made.id, poll_interval_ms=POLL_MS)
    changed = tenant.openai.vector_stores.update(made.id, name="two", metadata={"team": "b"})
    assert (changed.name, changed.metadata, changed.status) == ("two", {"team": "b"}, "completed")
    assert changed.file_counts.completed == 1
    assert changed.usage_bytes > 0
    kept = tenant.openai.vector_stores.update(made.id)
    assert (kept.name, kept.metadata) == ("two", {"team": "b"})
    assert made.id in [store.id for store in tenant.openai.vector_stores.list(limit=1)]  # the client walks the pages
    gone = tenant.openai.vector_stores.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "vector_store.deleted", True)
    with pytest.raises(openai.NotFoundError):
        tenant.openai.vector_stores.retrieve(made.id)
    assert tenant.openai.files.retrieve(file_id).id == file_id


def test_files_of_a_store_are_listed_by_status_in_pages(tenant: Tenant) -> None:
    """`filter`, `limit`, `after`, `order`: each file once, in the order of creation."""
    file_ids = [tenant.upload(f"{HANDBOOK}\n{n}") for n in range(3)]
    store = tenant.openai.vector_stores.create(file_ids=file_ids)
    for file_id in file_ids:
        tenant.openai.vector_stores.files.poll(file_id, vector_store_id=store.id, poll_interval_ms=POLL_MS)
    listed = tenant.openai.vector_stores.files.list(store.id, limit=2, order="asc", filter="completed")
    assert listed.has_more
    assert [file.id for file in listed] == file_ids
    assert tenant.openai.vector_stores.files.list(store.id, filter="failed").data == []


def test_file_that_cannot_be_read_is_failed_with_its_code(tenant: Tenant) -> None:
    """OpenAI's code, our own reason, a message; the store counts it."""
    store = tenant.openai.vector_stores.create()
    file_id = tenant.openai.files.create(file=("x.txt", b"\x89PNG\r\n\x1a\n" + bytes(64)), purpose="assistants").id
    file = tenant.openai.vector_stores.files.create_and_poll(file_id, vector_store_id=store.id)
    assert file.status == "failed"
    assert file.last_error is not None
    assert file.last_error.code == "unsupported_file"
    assert file.last_error.message
    assert tenant.openai.vector_stores.retrieve(store.id).file_counts.failed == 1
    reason = error(tenant.http.get(f"/vector_stores/{store.id}/files/{file_id}/content"), 400)["code"]
    assert reason == "not_ingested"


def test_deleting_a_file_removes_its_passages(tenant: Tenant) -> None:
    """Defect 18: out of the store, or out of the platform: it is not found any more."""
    store, first = tenant.filled()
    again = tenant.openai.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("lager.md", b"Spare filters are in cabinet 12."), poll_interval_ms=POLL_MS
    )
    gone = tenant.openai.vector_stores.files.delete(first.id, vector_store_id=store.id)
    assert (gone.id, gone.object, gone.deleted) == (first.id, "vector_store.file.deleted", True)
    assert {hit.file_id for hit in tenant.openai.vector_stores.search(store.id, query=QUESTION)} == {again.id}
    tenant.openai.files.delete(again.id)
    assert tenant.openai.vector_stores.search(store.id, query=QUESTION).data == []
    assert tenant.openai.vector_stores.retrieve(store.id).file_counts.total == 0


@pytest.mark.requirement("SEC-2")
def test_every_route_is_closed_to_another_tenant(stranger: Tenant, filled: tuple[VectorStore, VectorStoreFile]) -> None:
    """Defects 4, 5: 404, letter by letter as for an id that was never given, and nothing in its lists."""
    store, file = filled
    absent = "vs_" + "0" * 32
    for method, path, body in (
        ("GET", "", None),
        ("POST", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("GET", "/files", None),
        ("POST", "/files", {"file_id": file.id}),
        ("GET", f"/files/{file.id}", None),
        ("GET", f"/files/{file.id}/content", None),
        ("DELETE", f"/files/{file.id}", None),
        ("POST", "/search", {"query": QUESTION}),
    ):
        theirs = stranger.http.request(method, f"/vector_stores/{store.id}{path}", json=body)
        nobodys = stranger.http.request(method, f"/vector_stores/{absent}{path}", json=body)
        assert error(theirs, 404) == error(nobodys, 404), f"{method} {path}"
    assert stranger.openai.vector_stores.list().data == []
    with pytest.raises(openai.NotFoundError):
        stranger.openai.vector_stores.create(file_ids=[file.id])
    own, _ = stranger.filled("Rosen und Tulpen wachsen hinter dem Haus.", "garten.md")
    assert [hit.filename for hit in stranger.openai.vector_stores.search(own.id, query=QUESTION)] == ["garten.md"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ("{", "invalid_json", None),
        ('{"name": 7}', "invalid_request", "name"),
        ('{"file_ids": ' + str(["file_x"] * 501).replace("'", '"') + "}", "invalid_request", "file_ids"),
        ('{"metadata": {"k": 1}}', "invalid_request", "metadata[...]"),
        ('{"embedding_model": "text-embedding-3-large"}', "wrong_model_kind", "embedding_model"),
    ],
)
def test_store_that_cannot_be_made_names_the_field(tenant: Tenant, body: str, code: str, param: str | None) -> None:
    """400, in OpenAI's shape."""
    refused = error(tenant.http.post("/vector_stores", content=body), 400)
    assert (refused["code"], refused["param"]) == (code, param)


def test_unknown_fields_are_tolerated(tenant: Tenant) -> None:
    """What newer clients send does not break them."""
    body = {"name": "x", "expires_after": {"anchor": "last_active_at", "days": 7}, "something_new": True}
    assert tenant.http.post("/vector_stores", json=body).status_code == 200


def test_routes_have_stable_names(server: RunningServer, tenant: Tenant) -> None:
    """Generated clients depend on them."""
    paths = tenant.http.get(f"{server.url}/schema/openapi.json").raise_for_status().json()["paths"]
    names = {
        method["operationId"]
        for path, methods in paths.items()
        if path.startswith("/v1/vector_stores")
        for method in methods.values()
    }
    assert names == {
        "createVectorStore",
        "listVectorStores",
        "getVectorStore",
        "modifyVectorStore",
        "deleteVectorStore",
        "createVectorStoreFile",
        "listVectorStoreFiles",
        "getVectorStoreFile",
        "retrieveVectorStoreFileContent",
        "deleteVectorStoreFile",
        "searchVectorStore",
    }


def test_key_is_needed(server: RunningServer) -> None:
    """No credential, no store."""
    assert httpx.get(f"{server.url}/v1/vector_stores").status_code == 401


def test_log_is_quiet_and_holds_nothing_of_the_documents(server: RunningServer) -> None:
    """Requests and jobs of this whole module: refusals and failed documents are no errors of ours."""
    lines = [json.loads(line) for line in server.logged().splitlines()]
    assert any(line["context"] == "wattos.http" for line in lines)
    # What is slow is told, too: on a busy machine something may be.
    assert [one for one in lines if one["level"] >= LEVEL_WARN and one["context"] != "wattos.slow"] == []
    assert not any("entlüftet" in line or "Ersatzfilter" in line for line in map(str, lines))
