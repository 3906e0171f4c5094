"""What `POST /v1/chat/completions` refuses, in OpenAI's shape, before anything is sent."""

from __future__ import annotations

import httpx
import openai
import pytest

from gateway import Gateway
from upstream import embeds

UNDER_BOTH_TRANSPORTS = True


def error_of(response: httpx.Response) -> dict[str, object]:
    error = response.json()["error"]
    assert error.keys() - {"attempts"} == {"message", "type", "code", "param"}
    return error


MESSAGES = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": MESSAGES}, "model"),
        ({"model": "chat"}, "messages"),
        ({"model": "chat", "messages": []}, "messages"),
        ({"model": "chat", "messages": "x"}, "messages"),
        ({"model": "chat", "messages": ["x"]}, "messages"),
        ({"model": "chat", "messages": [{"content": "x"}]}, "messages"),
        ({"model": "chat", "messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"model": "chat", "messages": [{"role": "user", "content": [{"type": "file", "file": 5}]}]}, "messages"),
        ({"model": 5, "messages": MESSAGES}, "model"),
        ({"model": "chat", "messages": MESSAGES, "stream": "yes"}, "stream"),
        ({"model": "chat", "messages": MESSAGES, "temperature": "hot"}, "temperature"),
        ({"model": "chat", "messages": MESSAGES, "n": "two"}, "n"),
        ({"model": "chat", "messages": MESSAGES, "tools": "x"}, "tools"),
        ({"model": "chat", "messages": MESSAGES, "tool_choice": 5}, "tool_choice"),
        ({"model": "chat", "messages": MESSAGES, "response_format": "x"}, "response_format"),
        ({"model": "chat", "messages": MESSAGES, "web_search_options": 1}, "web_search_options"),
        ({"model": "chat", "messages": MESSAGES, "stream_options": []}, "stream_options"),
        ({"model": "chat", "messages": MESSAGES, "vector_store_ids": "vs"}, "vector_store_ids"),
        ({"model": "chat", "messages": MESSAGES, "retrieval": {"max_results": 0}}, "retrieval"),
        ({"model": "chat", "messages": MESSAGES, "cache": {"mode": "always"}}, "cache"),
        ({"model": "chat", "messages": MESSAGES, "cache": {"mode": "write", "ttl_s": -1}}, "cache"),
    ],
)
def test_wrong_field_is_400_and_named(gateway: Gateway, body: object, param: str) -> None:
    """Nothing wrong reaches a target."""
    response = gateway.post(body)
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert error_of(response)["type"] == "invalid_request_error"
    assert not gateway.upstream.requests


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff\xfe", b"[]", b'"x"', b"[" * 100_000])
def test_malformed_body_is_400(gateway: Gateway, body: bytes) -> None:
    """Not JSON, or no object."""
    with gateway.http() as client:
        response = client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert error_of(response)["code"] in {"invalid_json", "invalid_request"}


def test_unknown_model_is_404_in_openais_shape(gateway: Gateway) -> None:
    """The SDK's own exception class for it, and never a megabyte of its name."""
    with pytest.raises(openai.NotFoundError) as missing:
        gateway.openai().chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    assert len(gateway.ask("x" * 100_000).content) < 1_000


def test_model_of_another_key_is_404(gateway: Gateway) -> None:
    """What a key may not use is not there."""
    key = gateway.server.make_key("one", models=["free"])
    assert gateway.ask("free", key=key).status_code == 200
    response = gateway.ask("chat", key=key)
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")


def test_embedding_model_is_no_chat_model(gateway: Gateway) -> None:
    """400, and nothing is sent."""
    gateway.upstream.on("vec", embeds())
    response = gateway.ask("vectors")
    assert (response.status_code, error_of(response)["param"]) == (400, "model")
    assert not gateway.upstream.requests
