"""Real answers against the document: one successful call of every operation, and the refusals that are easy to get."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway
from openapi_document import operation, operations, the_document, validator
from upstream import says

TEXT = "The warranty of the lock is twenty-four months. Spare parts are kept in Hamburg."


class Caller:
    """Calls operations by their id, and holds each answer against the document."""

    def __init__(self, gateway: Gateway) -> None:
        self._tenant = gateway.http(gateway.server.make_key(f"doc-{uuid4().hex[:8]}"))
        self._admin = gateway.server.admin()
        self.succeeded: set[str] = set()

    def close(self) -> None:
        self._tenant.close()
        self._admin.close()

    def call(self, operation_id: str, status: int, *, ids: dict[str, str] | None = None, **request: Any) -> Any:
        path, method, one = operation(the_document(), operation_id)
        client = self._admin if path.startswith("/api/v1/") else self._tenant
        answer = client.request(method, path.format(**(ids or {})), **request)
        assert answer.status_code == status, answer.text
        content = conforms(one, answer)
        if answer.is_success:
            self.succeeded.add(operation_id)
        return content


def conforms(one: Any, answer: httpx.Response) -> Any:
    """Status, media type, body and our own headers are as the document says. Returns: the body."""
    told = one["responses"][str(answer.status_code)]
    ours = {name for name in answer.headers if name.startswith("x-") and name not in NOT_OURS}
    assert ours <= told["headers"].keys()
    if "content" not in told:
        assert answer.content == b""
        return None
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = told["content"][media_type]["schema"]
    if media_type.endswith("json"):
        validator(the_document(), schema).validate(answer.json())
        return answer.json()
    return answer.content if schema.get("format") == "binary" else answer.text


NOT_OURS = {"x-content-type-options", "x-accel-buffering"}
"""For browsers and proxies."""


@pytest.fixture(scope="module")
def caller(shared_gateway: Gateway) -> Iterator[Caller]:
    made = Caller(shared_gateway)
    yield made
    made.close()


def ingested(caller: Caller, ids: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while (found := caller.call("getVectorStoreFile", 200, ids=ids))["status"] != "completed":
        assert found["status"] == "in_progress", found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def signed_in_and_out(caller: Caller, tenant: dict[str, Any]) -> None:
    """A user's whole life."""
    person = {"email": "a@b.example", "password": "vier Birnen auf dem Tisch"}
    user = caller.call("createUser", 201, json={"tenant_id": tenant["id"], "role": "editor", **person})
    caller.call("listUsers", 200, params={"tenant_id": tenant["id"]})
    caller.call("getUser", 200, ids={"id": user["id"]})
    caller.call("updateUser", 200, ids={"id": user["id"]}, json={"name": "A"})
    tokens = caller.call("signIn", 200, json={"tenant": tenant["slug"], **person})
    tokens = caller.call("refreshTokens", 200, json={"refresh_token": tokens["refresh_token"]})
    signed_in = {"authorization": f"Bearer {tokens['access_token']}"}
    assert caller.call("getMe", 200, headers=signed_in)["user"]["id"] == user["id"]
    caller.call("signOut", 204, headers=signed_in)
    tokens = caller.call("signIn", 200, json={"tenant": tenant["slug"], **person})
    change = {"current_password": person["password"], "new_password": "drei Äpfel unter dem Bett"}
    signed_in = {"authorization": f"Bearer {tokens['access_token']}"}
    caller.call("changePassword", 204, headers=signed_in, json=change)
    caller.call("deleteUser", 204, ids={"id": user["id"]}, params={"erase": True})


def limits_and_budgets(caller: Caller, tenant: dict[str, Any]) -> None:
    of_tenant = {"scope": "tenant", "scope_id": tenant["id"]}
    caller.call("putLimit", 200, json={**of_tenant, "requests_per_minute": 10**6})
    caller.call("listLimits", 200, params={"tenant_id": tenant["id"]})
    budget = caller.call("createBudget", 201, json={**of_tenant, "amount_nusd": 10**9, "period": "month"})
    ids = {"id": budget["id"]}
    caller.call("getBudget", 200, ids=ids)
    caller.call("updateBudget", 200, ids=ids, json={"amount_nusd": 10**10})
    caller.call("listBudgets", 200, params={"tenant_id": tenant["id"]})
    caller.call("deleteBudget", 204, ids=ids)


def test_every_operation_answers_as_the_document_says(caller: Caller, gateway: Gateway) -> None:
    """A success of each one: none is left out, and one that is added later has to be added here."""
    call = caller.call
    for name in ("getLiveness", "getReadiness", "getHealth", "getMetrics", "listPlugins", "listModels"):
        call(name, 200)
    call("retrieveModel", 200, ids={"model": "wattos-extractive"})

    tenant = call("createTenant", 201, json={"name": "Documented", "slug": f"doc-{uuid4().hex[:8]}"})
    call("getTenant", 200, ids={"id": tenant["id"]})
    call("listTenants", 200, params={"limit": 1})
    key = call("createKey", 201, json={"tenant_id": tenant["id"], "name": "a", "expires_at": "2030-01-01T00:00:00Z"})
    call("listKeys", 200, params={"tenant_id": tenant["id"]})
    call("getKey", 200, ids={"id": key["id"]})
    call("revokeKey", 204, ids={"id": key["id"]})
    signed_in_and_out(caller, tenant)
    own = call("putProviderKey", 200, json={"tenant_id": tenant["id"], "provider": "groq", "key": "gsk-1"})
    call("listProviderKeys", 200, params={"tenant_id": tenant["id"]})
    call("deleteProviderKey", 204, ids={"id": own["id"]}, params={"tenant_id": tenant["id"]})
    limits_and_budgets(caller, tenant)
    call("listUsage", 200, params={"tenant_id": tenant["id"]})
    call("summarizeUsage", 200, params={"tenant_id": tenant["id"], "group_by": "day,model"})
    for form in ("csv", "jsonl"):
        call("exportUsage", 200, params={"tenant_id": tenant["id"], "format": form})
    numbers = {"input_nusd_per_mtok": 1, "output_nusd_per_mtok": 2}
    call("setPrice", 200, json={"tenant_id": tenant["id"], "target": "openai/gpt", **numbers})
    call("getPrices", 200, params={"tenant_id": tenant["id"]})
    call("listPriceVersions", 200, params={"tenant_id": tenant["id"], "target": "openai/gpt"})
    call("listAuditEvents", 200, params={"tenant_id": tenant["id"], "action": "key.created"})

    file = call("createFile", 200, files={"file": ("warranty.txt", TEXT.encode())}, data={"purpose": "assistants"})
    call("retrieveFile", 200, ids={"file_id": file["id"]})
    call("listFiles", 200, params={"limit": 10_000, "order": "asc", "purpose": "assistants"})
    assert call("downloadFile", 200, ids={"file_id": file["id"]}) == TEXT.encode()

    store = call("createVectorStore", 200, json={"name": "documented", "metadata": {"a": "b"}})
    ids = {"store_id": store["id"], "file_id": file["id"]}
    call("getVectorStore", 200, ids=ids)
    call("modifyVectorStore", 200, ids=ids, json={"name": "renamed"})
    call("listVectorStores", 200)
    attributes = {"language": "en", "year": 2030, "weight": 0.5, "public": True}
    call("createVectorStoreFile", 200, ids=ids, json={"file_id": file["id"], "attributes": attributes})
    ingested(caller, ids)
    call("listVectorStoreFiles", 200, ids=ids)
    call("listVectorStoreFiles", 200, ids=ids, params={"filter": "completed"})
    call("retrieveVectorStoreFileContent", 200, ids=ids)
    found = call("searchVectorStore", 200, ids=ids, json={"query": ["warranty", "spare parts"]})
    assert found["data"]

    question = {
        "model": "wattos-extractive",
        "messages": [{"role": "user", "content": "How long is the warranty?"}],
        "vector_store_ids": [store["id"]],
    }
    answered = call("createChatCompletion", 200, json=question)
    assert answered["choices"][0]["message"]["annotations"]
    call("createCompletion", 200, json={"model": "chat", "prompt": "a"})
    asked = {"model": "chat", "messages": [{"role": "user", "content": "a"}]}
    call("createMessage", 200, json={**asked, "max_tokens": 9})
    assert call("countMessageTokens", 200, json=asked)["input_tokens"] > 0
    result = {"flagged": False, "categories": {}, "category_scores": {}}
    gateway.upstream.on("guard", says(json.dumps({"id": "modr-1", "model": "x", "results": [result]})))
    call("createModeration", 200, json={"input": "a"})
    assert "chat" in call("reloadModels", 200)["aliases"]
    provider = call("listProviders", 200, params={"limit": 1})["data"][0]
    call("setProviderBreaker", 200, ids={"provider_id": provider["id"]}, json={"forced": "closed"})
    call("resetProvider", 200, ids={"provider_id": provider["id"]})
    call("createEmbedding", 200, json={"model": "wattos-embed", "input": "a"})
    call("createEmbedding", 200, json={"model": "wattos-embed", "input": ["a", "b"], "encoding_format": "base64"})

    call("deleteVectorStoreFile", 200, ids=ids)
    call("deleteVectorStore", 200, ids=ids)
    call("deleteFile", 200, ids=ids)
    assert caller.succeeded == {one["operationId"] for _, _, one in operations(the_document())}


def test_each_event_of_a_stream_is_a_chunk(caller: Caller, gateway: Gateway) -> None:
    """The schema of events is in the document, and they are of it: a vendor's, with usage, to `[DONE]`."""
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "ping"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    text = caller.call("createChatCompletion", 200, json=body)
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events.pop() == "[DONE]"
    chunk = validator(the_document(), {"$ref": "#/components/schemas/ChatCompletionChunk"})
    for event in events:
        chunk.validate(json.loads(event))
    assert len(events) > 3


@pytest.mark.parametrize(
    ("operation_id", "status", "request_"),
    [
        ("createChatCompletion", 400, {"content": b"{"}),
        ("createChatCompletion", 404, {"json": {"model": "none", "messages": [{"role": "user", "content": "a"}]}}),
        ("createEmbedding", 400, {"json": {"model": "chat", "input": "a"}}),
        ("createFile", 400, {"data": {"purpose": "assistants"}}),
        ("retrieveFile", 404, {"ids": {"file_id": "file_1"}}),
        ("listFiles", 400, {"params": {"limit": 10_001}}),
        ("listVectorStores", 400, {"params": {"limit": 101}}),
        ("createVectorStore", 400, {"json": {"name": "a" * 257}}),
        ("createTenant", 400, {"json": {"name": "a", "slug": "a", "more": 1}}),
        ("createKey", 404, {"json": {"name": "a", "tenant_id": "ten_1"}}),
        ("listKeys", 400, {}),
        ("getUser", 404, {"ids": {"id": "user_1"}}),
        ("createUser", 400, {"json": {"email": "no address"}}),
        ("signIn", 401, {"json": {"tenant": "x", "email": "x", "password": "x"}}),
        ("refreshTokens", 401, {"json": {"refresh_token": "x"}}),
        ("signOut", 403, {}),
        ("putProviderKey", 400, {"json": {"provider": "openai", "key": "k", "base_url": "http://127.0.0.1"}}),
        ("listAuditEvents", 400, {"params": {"action": "x"}}),
        ("resetProvider", 404, {"ids": {"provider_id": "prov_1"}}),
        ("setProviderBreaker", 400, {"ids": {"provider_id": "prov_1"}, "json": {"forced": "half_open"}}),
        ("summarizeUsage", 400, {"params": {"group_by": "x"}}),
    ],
)
def test_refusals_are_as_the_document_says(
    caller: Caller, operation_id: str, status: int, request_: dict[str, Any]
) -> None:
    """Status, media type and shape; and the status is one that the operation lists."""
    caller.call(operation_id, status, **request_)


def test_a_content_part_that_nobody_knows_is_the_vendors_to_judge(caller: Caller, gateway: Gateway) -> None:
    """It gets there unharmed: tomorrow it may be known there."""
    messages = [{"role": "user", "content": [{"type": "AAA", "file": {}}]}]
    caller.call("createChatCompletion", 200, json={"model": "chat", "messages": messages})
    assert gateway.upstream.requests[-1].body["messages"] == messages


def test_a_question_that_is_too_long_names_the_callers_field(caller: Caller) -> None:
    """`query` in a search, `messages` in a chat; `input` is what embeddings call it."""
    question = "warranty " * 100_000
    ids = {"store_id": caller.call("createVectorStore", 200, json={})["id"]}
    refused = caller.call("searchVectorStore", 400, ids=ids, json={"query": question})
    assert (refused["error"]["code"], refused["error"]["param"]) == ("context_length_exceeded", "query")
    asked = {"messages": [{"role": "user", "content": question}], "vector_store_ids": [ids["store_id"]]}
    refused = caller.call("createChatCompletion", 400, json={"model": "wattos-extractive", **asked})
    assert (refused["error"]["code"], refused["error"]["param"]) == ("context_length_exceeded", "messages")


OF_NO_TENANT = {
    *("createCompletion", "createModeration", "createMessage", "countMessageTokens", "createEmbedding"),
    *("listModels", "retrieveModel"),
}
"""What the administrator may call as well: nothing of a tenant's is in it."""


def test_refusals_of_the_door_are_as_the_document_says(gateway: Gateway) -> None:
    """401 without a key and 403 with the administrator's, for every operation that needs a tenant's."""
    ids = {"file_id": "file_1", "store_id": "vs_1", "id": "key_1", "model": "chat", "provider_id": "prov_1"}
    with httpx.Client(base_url=gateway.server.url) as nobody, gateway.server.admin() as admin:
        for path, method, one in operations(the_document()):
            if one.get("security") == []:
                continue
            refused = nobody.request(method, path.format(**ids))
            assert refused.status_code == 401
            conforms(one, refused)
            assert refused.headers["www-authenticate"] == "Bearer"
            if path.startswith("/v1/") and one["operationId"] not in OF_NO_TENANT:
                refused = admin.request(method, path.format(**ids))
                assert refused.status_code == 403, path
                conforms(one, refused)
