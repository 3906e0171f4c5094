"""What `/v1` answers, checked against OpenAI's own published OpenAPI document (`tests/openai_spec`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Gateway
from nasty_gateway import TRANSPORTS, running_nasty, seen_in
from openai_document import DOCUMENT, wrong_in
from transport_cases import CASES
from upstream import answers, embeds, fails

BEYOND = {"reasoning", "letters and escapes", "what looks like our own words"}
"""Cases that say nothing more about shapes than others do."""

USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


@pytest.fixture(scope="module", params=TRANSPORTS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_nasty(tmp_path_factory.mktemp("document"), request.param) as started:
        yield started


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.upstream.reset()
    return running


def test_the_document_is_openais() -> None:
    """Cut, not written: it has OpenAI's title and licence, and refuses what is wrong."""
    document = json.loads(DOCUMENT.read_text())
    assert document["info"]["title"] == "OpenAI API"
    assert document["info"]["license"]["name"] == "MIT"
    assert wrong_in("CreateChatCompletionResponse", {"id": "x"}) != []
    assert wrong_in("CreateChatCompletionStreamResponse", {"id": "x", "choices": [{}]}) != []
    assert wrong_in("ErrorResponse", {"error": {"message": "x"}}) != []


def asked(gateway: Gateway, name: str, **more: object) -> Any:
    case = CASES[name]
    gateway.upstream.on("gpt", case.answer())
    body = {field: json.loads(bytes(raw)) for field, raw in case.sent.items()}
    response = gateway.post({**body, "model": "chat", **more})
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("name", sorted(CASES.keys() - BEYOND))
def test_chat_completions(gateway: Gateway, name: str) -> None:
    """Every feature's whole answer."""
    assert wrong_in("CreateChatCompletionResponse", asked(gateway, name).json()) == []


@pytest.mark.parametrize("name", sorted(CASES.keys() - BEYOND))
def test_chunks(gateway: Gateway, name: str) -> None:
    """Every chunk of every feature's stream, the one with the usage included."""
    seen = seen_in(asked(gateway, name, stream=True, **USAGE))
    assert seen.is_done
    wrong = [one for body in seen.chunks for one in wrong_in("CreateChatCompletionStreamResponse", body)]
    assert wrong == []


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings(gateway: Gateway, encoding: str | None) -> None:
    """OpenAI's document knows vectors of numbers alone; base64 is in its SDKs."""
    gateway.upstream.on("vec", embeds())
    wish = {"encoding_format": encoding} if encoding else {}
    body = gateway.post({"model": "vectors", "input": ["a", "b"], **wish}, "/v1/embeddings").json()
    if encoding == "base64":
        assert all(isinstance(row["embedding"], str) for row in body["data"])
        body["data"] = [{**row, "embedding": [0.0]} for row in body["data"]]
    assert wrong_in("CreateEmbeddingResponse", body) == []


def test_models(gateway: Gateway) -> None:
    """The list, and one of it."""
    with gateway.http() as client:
        assert wrong_in("ListModelsResponse", client.get("/v1/models").json()) == []
        assert wrong_in("Model", client.get("/v1/models/chat").json()) == []


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 500, 503])
def test_errors(gateway: Gateway, status: int) -> None:
    """A vendor's, in a whole answer's place and within a stream; and ours."""
    gateway.upstream.on("gpt", fails(status))
    assert wrong_in("ErrorResponse", gateway.ask("chat").json()) == []
    gateway.upstream.on("gpt", answers("Hello world", die_after=2))
    (error,) = seen_in(gateway.ask("chat", stream=True)).errors
    assert wrong_in("ErrorResponse", {"error": error}) == []
    for model in ("nobody", "vectors", "", None):
        assert wrong_in("ErrorResponse", gateway.ask(model).json()) == []  # type: ignore[arg-type]
