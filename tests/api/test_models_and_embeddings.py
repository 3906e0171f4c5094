"""`/v1/models` and `/v1/embeddings`, with the official client."""

from __future__ import annotations

import asyncio
import base64
import math
import struct

import httpx
import openai
import pytest

from gateway import Gateway
from upstream import embeds, fails, hangs

UNDER_BOTH_TRANSPORTS = True

pytestmark = pytest.mark.requirement("SVC-1")


def test_models_are_those_of_the_configuration(gateway: Gateway) -> None:
    """In its order; the two that documents need are always there."""
    models = gateway.openai().models.list().data
    assert [model.id for model in models] == [
        *("chat", "free", "known", "backed", "spare", "doomed", "vectors", "guard"),
        *("wattos-extractive", "wattos-embed"),
    ]
    assert gateway.openai().models.retrieve("chat").id == "chat"


def test_models_are_those_that_the_key_may_use(gateway: Gateway) -> None:
    """What a key may not use is not there: neither in the list nor by name."""
    client = gateway.openai(gateway.server.make_key("one", models=["spare", "vectors"]))
    assert [model.id for model in client.models.list().data] == ["spare", "vectors"]
    for name in ("chat", "nope", "a/b"):
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve(name)
        assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="wattos-embed", input="x")


@pytest.mark.parametrize("model", ["wattos-embed", "vectors"])
def test_base64_and_floats_are_the_same_vectors(gateway: Gateway, model: str) -> None:
    """The official client asks for base64 unless told otherwise."""
    gateway.upstream.on("vec", embeds(3))
    client = gateway.openai()
    texts = ["Wie oft wird gelüftet?", "Six weeks."]
    packed = client.embeddings.create(model=model, input=texts)
    plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
    assert [e.index for e in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.model == model
    raw = gateway.post({"model": model, "input": texts[0], "encoding_format": "base64"}, "/v1/embeddings").json()
    decoded = base64.b64decode(raw["data"][0]["embedding"])
    assert struct.unpack(f"<{len(decoded) // 4}f", decoded) == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_embedder_of_this_machine_gives_unit_vectors(gateway: Gateway) -> None:
    """384 dimensions, free of charge; questions and passages are embedded differently."""
    client = gateway.openai()
    (one,) = client.embeddings.create(model="wattos-embed", input="pump").data
    (two,) = client.embeddings.create(model="wattos-embed", input="pump", extra_body={"input_type": "query"}).data
    assert len(one.embedding) == 384
    assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-3)
    assert one.embedding != two.embedding
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="wattos-embed", input="pump", dimensions=5)
    assert refused.value.param == "dimensions"


def test_embeddings_of_the_upstream_have_order_cost_and_dimensions(gateway: Gateway) -> None:
    """The trail is the same as for chat."""
    gateway.upstream.on("vec", embeds(3, usage=(1_000, 0), shuffled=True))
    response = gateway.post({"model": "vectors", "input": ["a", "bbb"], "dimensions": 2}, "/v1/embeddings")
    assert [item["embedding"] for item in response.json()["data"]] == [[1.0, 0.5], [3.0, 0.5]]
    assert response.json()["usage"] == {"prompt_tokens": 1_000, "total_tokens": 1_000}
    assert response.headers["x-wattos-target"] == "openai/vec"
    assert response.headers["x-wattos-cost-nusd"] == "150000"
    assert gateway.upstream.requests[0].body["dimensions"] == 2


def test_retry_after_reaches_the_client_of_embeddings(gateway: Gateway) -> None:
    """As for chat."""
    gateway.upstream.on("vec", fails(429, retry_after="9"))
    response = gateway.post({"model": "vectors", "input": "a"}, "/v1/embeddings")
    assert (response.status_code, response.headers["retry-after"]) == (429, "9")


async def test_leaving_closes_the_upstreams_connection(gateway: Gateway) -> None:
    """Defect 11, for embeddings."""
    upstream = gateway.upstream
    upstream.on("vec", hangs)
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {gateway.key}"}, timeout=30) as client:
        body = {"model": "vectors", "input": "a"}
        calling = asyncio.create_task(client.post(f"{gateway.server.url}/v1/embeddings", json=body))
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    await asyncio.to_thread(upstream.wait_until, lambda: upstream.requests[0].left_at_s, 1.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "vectors"}, "input"),
        ({"model": "vectors", "input": []}, "input"),
        ({"model": "vectors", "input": ""}, "input"),
        ({"model": "vectors", "input": ["x", " "]}, "input"),
        ({"model": "vectors", "input": ["a", [1]]}, "input"),
        ({"model": "vectors", "input": [[]]}, "input"),
        ({"model": "vectors", "input": [1, "a"]}, "input"),
        ({"model": "vectors", "input": {}}, "input"),
        ({"model": "vectors", "input": ["x"] * 2049}, "input"),
        ({"model": "vectors", "input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "vectors", "input": "x", "dimensions": 0}, "dimensions"),
        ({"model": "chat", "input": "x"}, "model"),
        ({"model": 5, "input": "x"}, "model"),
    ],
)
def test_wrong_field_is_400_and_named(gateway: Gateway, body: object, param: str) -> None:
    """Nothing wrong reaches a target."""
    response = gateway.post(body, "/v1/embeddings")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not gateway.upstream.requests


def test_tokens_and_unknown_fields_reach_the_vendor(gateway: Gateway) -> None:
    """LangChain sends tokens by default; the model on this machine says that it takes text."""
    gateway.upstream.on("vec", embeds())
    client = gateway.openai()
    for tokens in ([1, 2, 3], [[1, 2], [3]]):
        found = client.embeddings.create(model="vectors", input=tokens, user="u", encoding_format="float")  # type: ignore[arg-type]
        received = gateway.upstream.requests[-1].body
        assert (received["input"], received["user"]) == (tokens if isinstance(tokens[0], list) else [tokens], "u")
        assert len(found.data) == len(received["input"])
    refused = gateway.post({"model": "wattos-embed", "input": [1, 2]}, "/v1/embeddings")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
