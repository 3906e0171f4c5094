"""Questions over documents with a language model behind them: what it writes is cited, and quotes stand in for it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway import Gateway
from upstream import answers, fails

pytestmark = pytest.mark.requirement("SVC-4")

HANDBOOK = """# Käfer handbook 🐞

## Wartung

Die Pumpe P-17 wird alle sechs Wochen entlüftet. Dabei wird das Ventil V3 geschlossen.

## Maintenance

The pump P-17 is vented every six weeks. The valve V3 is closed before the pump is vented.

## Storage

Spare filters are kept in cabinet 12 on the second floor. Filters are replaced after 400 hours of operation.
"""
QUESTION = "How often is the pump P-17 vented?"
WRITTEN = "The pump P-17 is vented every six weeks [1]."
INGESTION_S = 60.0


class Library:
    """A gateway, and a store with one document in it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        client = gateway.openai()
        self.file_id = client.files.create(file=("handbook.md", HANDBOOK.encode()), purpose="assistants").id
        self.store_id = client.vector_stores.create(name="handbooks", file_ids=[self.file_id]).id
        deadline = time.monotonic() + INGESTION_S
        while (store := client.vector_stores.retrieve(self.store_id)).file_counts.completed != 1:
            assert store.file_counts.failed == 0
            assert time.monotonic() < deadline, store.file_counts
            time.sleep(0.05)
        with gateway.http() as http:
            stored = http.get(f"/v1/vector_stores/{self.store_id}/files/{self.file_id}/content").raise_for_status()
        self.text = "".join(part["text"] for part in stored.json()["data"])

    def ask(self, model: str, question: str = QUESTION, **fields: object) -> Any:
        messages = [{"role": "user", "content": question}]
        return self.gateway.post({"model": model, "messages": messages, "vector_store_ids": [self.store_id], **fields})

    def check(self, text: str, annotations: list[dict[str, Any]]) -> None:
        """Each quote stands in the stored text, letter by letter, and each marker in the answer."""
        assert annotations
        for one in annotations:
            assert (one["type"], one["file_id"], one["filename"]) == ("file_citation", self.file_id, "handbook.md")
            assert self.text[one["start"] : one["end"]] == one["quote"] != ""
            assert text[one["index"]] == "["


@pytest.fixture(scope="module")
def library_of_all(shared_gateway: Gateway) -> Library:
    return Library(shared_gateway)


@pytest.fixture
def library(library_of_all: Library) -> Library:
    library_of_all.gateway.upstream.reset()
    return library_of_all


def test_answer_of_a_model_is_cited_with_exact_quotes(library: Library) -> None:
    """The model gets the passages as a system message, beside the client's own; its markers become annotations."""
    library.gateway.upstream.on("gpt", answers(WRITTEN, usage=(1_000, 10)))
    response = library.ask("chat")
    body = response.json()
    message = body["choices"][0]["message"]
    assert message["content"] == WRITTEN
    library.check(message["content"], message["annotations"])
    assert body["x_wattos"] == {"retrieval": "vector", "degraded": None}
    assert response.headers["x-wattos-cost-nusd"] == "156000"
    sent = library.gateway.upstream.requests[0].body
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert "vented every six weeks" in sent["messages"][0]["content"]
    assert "vector_store_ids" not in sent


def test_streamed_answer_of_a_model_is_cited_on_its_last_chunk(library: Library) -> None:
    """The annotations come with the finish, when the whole text is known."""
    library.gateway.upstream.on("gpt", answers(WRITTEN))
    stream = library.gateway.openai().chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        extra_body={"vector_store_ids": [library.store_id]},
    )
    chunks = [chunk.to_dict() for chunk in stream]
    deltas: list[Any] = [chunk["choices"][0]["delta"] for chunk in chunks]  # type: ignore[index]
    text = "".join(delta.get("content") or "" for delta in deltas)
    assert text == WRITTEN
    library.check(text, deltas[-1]["annotations"])
    assert chunks[-1]["x_wattos"] == {"retrieval": "vector", "degraded": None}
    assert not any("annotations" in delta for delta in deltas[:-1])


def test_marker_of_no_passage_is_no_citation(library: Library) -> None:
    """A model may write what it likes: only what stands in the documents is cited."""
    library.gateway.upstream.on("gpt", answers("Everyone knows that [99], and this [0], and that [1"))
    message = library.ask("chat").json()["choices"][0]["message"]
    assert message["annotations"] == []


@pytest.mark.parametrize("stream", [False, True])
def test_quotes_stand_in_when_all_models_are_down(library: Library, stream: bool) -> None:
    """RES-3: a user still gets cited quotes, marked as such, at no cost."""
    library.gateway.upstream.on("doomed-1", fails(401))
    library.gateway.upstream.on("doomed-2", fails(401))
    response = library.ask("doomed", stream=stream)
    assert response.status_code == 200
    assert response.headers["x-wattos-target"] == "wattos-extractive"
    if stream:
        events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
        annotations, extension = chunks[-1]["choices"][0]["delta"]["annotations"], chunks[-1]["x_wattos"]
    else:
        body = response.json()
        message, extension = body["choices"][0]["message"], body["x_wattos"]
        text, annotations = message["content"], message["annotations"]
        assert response.headers["x-wattos-cost-nusd"] == "0"
    assert "every six weeks" in text
    library.check(text, annotations)
    assert extension == {"retrieval": "vector", "degraded": "extractive"}


@pytest.mark.parametrize(
    "needs",
    [
        {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_quotes_never_stand_in_for_tools_or_formats(library: Library, needs: dict[str, object]) -> None:
    """A client that asked for JSON gets an error rather than prose."""
    library.gateway.upstream.on("doomed-1", fails(401))
    library.gateway.upstream.on("doomed-2", fails(401))
    response = library.ask("doomed", **needs)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "all_targets_failed")


def test_quotes_never_stand_in_without_documents(library: Library) -> None:
    """Plain chat gets 503 when all models are down."""
    library.gateway.upstream.on("doomed-1", fails(401))
    library.gateway.upstream.on("doomed-2", fails(401))
    assert library.gateway.ask("doomed").status_code == 503
    refused = library.gateway.ask("wattos-extractive")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "vector_store_ids")


def test_extractive_model_is_not_degraded_when_it_was_asked_for(library: Library) -> None:
    """It is the default over documents, and nothing stood in for anything."""
    body = library.ask("wattos-extractive", "Wie oft wird die Pumpe P-17 entlüftet?").json()
    assert body["x_wattos"] == {"retrieval": "vector", "degraded": None}
    message = body["choices"][0]["message"]
    assert "sechs Wochen" in message["content"]
    library.check(message["content"], message["annotations"])


def test_no_passages_means_no_model_is_asked(library: Library) -> None:
    """With nothing found there is nothing to write about: said so, without citations, and not called degraded."""
    response = library.ask("chat", retrieval={"score_threshold": 1.0})
    message = response.json()["choices"][0]["message"]
    assert message["annotations"] == []
    assert response.json()["x_wattos"]["degraded"] is None
    assert not library.gateway.upstream.requests


def test_store_of_another_tenant_is_not_found(library: Library) -> None:
    """Defect 4: the tenant comes from the credential alone."""
    key = library.gateway.server.make_key("stranger")
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "vector_store_ids": [library.store_id]}
    assert library.gateway.post(body, key=key).status_code == 404
    assert library.gateway.post({**body, "vector_store_ids": ["vs_nonsense"]}).status_code in {400, 404}
    assert not library.gateway.upstream.requests
