"""Two tenants: what belongs to the one does not exist for the other, in status, body and every byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway

SECRET = "Der Tresorcode lautet 4711-Zebra."
MISSING_FILE, MISSING_STORE = "file_" + uuid4().hex, "vs_" + uuid4().hex

CHAT = {"model": "wattos-extractive", "messages": [{"role": "user", "content": "Wie lautet der Tresorcode?"}]}

CALLS: list[tuple[str, str, object]] = [
    ("GET", "/v1/files/{file}", None),
    ("GET", "/v1/files/{file}/content", None),
    ("DELETE", "/v1/files/{file}", None),
    ("GET", "/v1/vector_stores/{store}", None),
    ("POST", "/v1/vector_stores/{store}", {"name": "mine now"}),
    ("GET", "/v1/vector_stores/{store}/files", None),
    ("POST", "/v1/vector_stores/{store}/files", {"file_id": "{file}"}),
    ("GET", "/v1/vector_stores/{store}/files/{file}", None),
    ("GET", "/v1/vector_stores/{store}/files/{file}/content", None),
    ("DELETE", "/v1/vector_stores/{store}/files/{file}", None),
    ("POST", "/v1/vector_stores/{store}/search", {"query": "Tresorcode"}),
    ("DELETE", "/v1/vector_stores/{store}", None),
    ("POST", "/v1/chat/completions", {**CHAT, "vector_store_ids": ["{store}"]}),
    ("POST", "/v1/chat/completions", {**CHAT, "vector_store_ids": ["{store}"], "stream": True}),
    ("POST", "/v1/vector_stores", {"file_ids": ["{file}"]}),
]


class Owner:
    """Tenant A with a document in a store; and a client of tenant B."""

    def __init__(self, gateway: Gateway) -> None:
        self.a = gateway.http(gateway.server.make_key("tenant-a"))
        self.b = gateway.http(gateway.server.make_key("tenant-b"))
        client = gateway.openai(self.a.headers["authorization"].removeprefix("Bearer "))
        store = client.vector_stores.create(name="secret")
        added = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("tresor.txt", SECRET.encode()), poll_interval_ms=100
        )
        assert added.status == "completed", added
        self.file, self.store = added.id, store.id


@pytest.fixture(scope="module")
def owner(shared_gateway: Gateway) -> Iterator[Owner]:
    made = Owner(shared_gateway)
    with made.a, made.b:
        yield made


def call(client: httpx.Client, method: str, path: str, body: object, file: str, store: str) -> httpx.Response:
    def filled(text: str) -> str:
        return text.replace("{file}", file).replace("{store}", store)

    content = None if body is None else filled(json.dumps(body))
    return client.request(method, filled(path), content=content)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_what_is_not_yours_is_not_there(owner: Owner, method: str, path: str, body: object) -> None:
    """Status and body are those of an id that does not exist, ids in messages aside."""
    theirs = call(owner.b, method, path, body, owner.file, owner.store)
    nobodys = call(owner.b, method, path, body, MISSING_FILE, MISSING_STORE)
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace(owner.file, "…") == nobodys.text.replace(MISSING_FILE, "…")
    assert "4711" not in theirs.text


def test_lists_show_ones_own_alone(owner: Owner) -> None:
    """And everything of A's is untouched by what B tried."""
    for path in ("/v1/files", "/v1/vector_stores"):
        assert owner.b.get(path).json()["data"] == []
        assert owner.a.get(path).json()["data"] != []


def test_the_owner_is_answered_from_its_document(owner: Owner) -> None:
    """The same question, by the one whose document it is."""
    answer = call(owner.a, "POST", "/v1/chat/completions", CALLS[12][2], owner.file, owner.store).json()
    message = answer["choices"][0]["message"]
    (citation,) = message["annotations"]
    assert "4711-Zebra" in message["content"]
    assert SECRET[citation["start"] : citation["end"]] == citation["quote"]


def test_a_tenant_in_header_or_body_changes_nothing(owner: Owner) -> None:
    """The tenant comes from the credential alone."""
    forged = {"x-tenant-id": "tenant-a", "x-wattos-tenant": "tenant-a", "openai-organization": "tenant-a"}
    assert owner.b.get(f"/v1/files/{owner.file}", headers=forged).status_code == 404
    assert owner.b.get(f"/v1/files/{owner.file}", params={"tenant_id": "tenant-a"}).status_code == 404
