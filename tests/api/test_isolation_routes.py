"""Isolation where it is easily forgotten: cursors, mixed lists, caches, keys of one tenant, and routes to come."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway

SECRET = "Das Passwort der Schleuse lautet Nordlicht-88."
QUESTION = "Wie lautet das Passwort der Schleuse?"


class Tenant:
    """A tenant with one document in a store of its own."""

    def __init__(self, gateway: Gateway, text: str) -> None:
        self.key = gateway.server.make_key(f"t-{uuid4().hex[:8]}")
        self.http = gateway.http(self.key)
        client = gateway.openai(self.key)
        self.store = client.vector_stores.create(name="own").id
        added = client.vector_stores.files.upload_and_poll(
            vector_store_id=self.store, file=("note.txt", text.encode()), poll_interval_ms=50
        )
        assert added.status == "completed", added
        self.file = added.id
        client.close()

    def ask(self, *stores: str) -> httpx.Response:
        body = {
            "model": "wattos-extractive",
            "messages": [{"role": "user", "content": QUESTION}],
            "vector_store_ids": list(stores),
        }
        return self.http.post("/v1/chat/completions", json=body)

    def search(self, store: str) -> httpx.Response:
        return self.http.post(f"/v1/vector_stores/{store}/search", json={"query": QUESTION, "max_num_results": 50})


@pytest.fixture(scope="module")
def owner(shared_gateway: Gateway) -> Iterator[Tenant]:
    made = Tenant(shared_gateway, SECRET)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def stranger(shared_gateway: Gateway) -> Iterator[Tenant]:
    made = Tenant(shared_gateway, "Im Hof steht eine Linde.")
    yield made
    made.http.close()


@pytest.mark.requirement("SEC-2")
def test_search_and_chat_find_nothing_of_others(owner: Tenant, stranger: Tenant) -> None:
    """Defect 5. The owner finds it; the stranger finds its own document alone, for the very same question."""
    assert "Nordlicht-88" in owner.search(owner.store).text
    assert "Nordlicht-88" in owner.ask(owner.store).text
    found = stranger.search(stranger.store)
    assert [hit["file_id"] for hit in found.json()["data"]] == [stranger.file]
    answered = stranger.ask(stranger.store)
    assert answered.status_code == 200
    assert "Nordlicht" not in found.text + answered.text


@pytest.mark.requirement("SEC-2")
def test_own_store_opens_no_other_one(owner: Tenant, stranger: Tenant) -> None:
    """One store that is not theirs among those that are: refused as a whole, as for one that is not there."""
    absent = "vs_" + uuid4().hex
    for stores in ([owner.store], [stranger.store, owner.store], [owner.store, stranger.store]):
        with_theirs = stranger.ask(*stores)
        with_nobodys = stranger.ask(*(absent if store == owner.store else store for store in stores))
        assert (with_theirs.status_code, with_theirs.content) == (with_nobodys.status_code, with_nobodys.content)
        assert with_theirs.status_code == 404


@pytest.mark.requirement("SEC-2")
def test_others_file_cannot_be_put_into_an_own_store(owner: Tenant, stranger: Tenant) -> None:
    """Alone, or among own ones; and nothing is made when it is refused."""
    before = stranger.http.get("/v1/vector_stores").json()
    url = f"/v1/vector_stores/{stranger.store}/files"
    absent = "file_" + uuid4().hex
    for theirs, nobodys in (
        (stranger.http.post(url, json={"file_id": owner.file}), stranger.http.post(url, json={"file_id": absent})),
        (
            stranger.http.post("/v1/vector_stores", json={"file_ids": [stranger.file, owner.file]}),
            stranger.http.post("/v1/vector_stores", json={"file_ids": [stranger.file, absent]}),
        ),
    ):
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.text.replace(owner.file, "…") == nobodys.text.replace(absent, "…")
    assert stranger.http.get("/v1/vector_stores").json() == before
    assert [file["id"] for file in stranger.http.get(url).json()["data"]] == [stranger.file]


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_others_id_as_a_cursor_tells_nothing(owner: Tenant, stranger: Tenant, order: str) -> None:
    """A cursor is a point in time: rows are one's own, whoever's id it was."""
    for path, after, own in (
        ("/v1/files", owner.file, stranger.file),
        ("/v1/vector_stores", owner.store, stranger.store),
        (f"/v1/vector_stores/{stranger.store}/files", owner.file, stranger.file),
    ):
        page = stranger.http.get(path, params={"after": after, "order": order})
        assert page.status_code == 200
        assert {row["id"] for row in page.json()["data"]} <= {own}


@pytest.mark.requirement("SEC-2")
def test_answer_kept_for_one_tenant_is_not_given_to_another(shared_gateway: Gateway) -> None:
    """Defect 5: the cache's key has the tenant in it, though the requests are the same letter by letter."""
    body = {
        "model": "free",
        "messages": [{"role": "user", "content": f"a question nobody asked before: {uuid4()}"}],
        "cache": {"mode": "readwrite"},
    }
    first, second = (shared_gateway.server.make_key(f"c-{uuid4().hex[:8]}") for _ in range(2))
    shared_gateway.upstream.reset()
    states = [shared_gateway.post(body, key=key).headers["x-wattos-cache"] for key in (first, first, second)]
    assert states == ["miss", "hit", "miss"]


@pytest.mark.requirement("SEC-2")
def test_every_route_with_an_id_in_its_path_is_walked(shared_gateway: Gateway, owner: Tenant, stranger: Tenant) -> None:
    """Also one that is added later: each path and method of the OpenAPI document that names a file or a store is tried
    with the owner's ids and with absent ones, by the stranger.
    """
    ids = {"file_id": owner.file, "store_id": owner.store}
    absent = {"file_id": "file_" + uuid4().hex, "store_id": "vs_" + uuid4().hex}
    bodies = {"search": {"query": QUESTION}, "files": {"file_id": owner.file}}
    document = httpx.get(f"{shared_gateway.server.url}/schema/openapi.json").raise_for_status().json()
    n_walked = 0
    for path, methods in document["paths"].items():
        if not any(f"{{{name}}}" in path for name in ids):
            continue
        body = bodies.get(path.rsplit("/", 1)[-1], {})
        for method in methods:
            theirs, nobodys = (
                stranger.http.request(method, path.format(**chosen), json=body if method == "post" else None)
                for chosen in (ids, absent)
            )
            assert theirs.status_code == nobodys.status_code == 404, f"{method} {path}"
            assert theirs.content == nobodys.content, f"{method} {path}"
            n_walked += 1
    assert n_walked >= 12
    assert owner.http.get(f"/v1/vector_stores/{owner.store}/files/{owner.file}").status_code == 200
