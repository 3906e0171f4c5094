"""`/v1/completions` and `/v1/moderations` with the official client, over models of the kind and models that chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway import Gateway
from nasty_gateway import seen_in
from openai_document import wrong_in
from server import environment, running
from upstream import API_KEY, Upstream, answers, fails, running_upstream
from upstream_server import Exchange, Script

pytestmark = pytest.mark.requirement("SVC-1")

TEXT = "The gate opens at nine."
USAGE = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
KINDS = (
    *("hate", "hate/threatening", "harassment", "harassment/threatening", "illicit", "illicit/violent"),
    *("self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors"),
    *("violence", "violence/graphic"),
)
RESULT = {
    "flagged": True,
    "categories": {kind: kind == "violence" for kind in KINDS},
    "category_scores": dict.fromkeys(KINDS, 0.9),
    "category_applied_input_types": {kind: ["text"] for kind in KINDS},
    "x_more": 1,
}


def continues(*, finishes: bool = True) -> Script:
    """A model of the legacy kind, whole or streamed."""

    async def script(exchange: Exchange) -> None:
        body = exchange.received.body
        envelope = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "vendors-own"}
        if not body.get("stream"):
            choices = [{"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}]
            await exchange.json(200, {**envelope, "choices": choices, "usage": USAGE})
            return
        await exchange.head(200, {"content-type": "text/event-stream"})
        for piece in (TEXT[:10], TEXT[10:]):
            choices = [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None}]
            await exchange.event({**envelope, "choices": choices})
        if finishes:
            await exchange.event({**envelope, "choices": [{**choices[0], "text": "", "finish_reason": "stop"}]})
            await exchange.event({**envelope, "choices": [], "usage": USAGE})
            await exchange.event("[DONE]")
        exchange.received.answered = True

    return script


async def moderates(exchange: Exchange) -> None:
    await exchange.json(200, {"id": "modr-1", "model": "vendors-own", "results": [RESULT]})


@pytest.fixture(scope="module", params=["auto", "litellm"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def is_through_litellm(transport: str) -> bool:
    return transport == "litellm"


@pytest.fixture(scope="module")
def module_gateway(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tmp_path = tmp_path_factory.mktemp("completions")
    with running_upstream() as upstream:
        path = tmp_path / "models.yaml"
        path.write_text(json.dumps(config(upstream)))
        env = environment(
            tmp_path / "data",
            MODELS_CONFIG=str(path),
            LOCAL_MODELS_ENABLED="false",
            RETRY_MAX_ATTEMPTS="1",
            LLM_TRANSPORT=transport,
        )
        with running(env, tmp_path / "server.log") as server:
            yield Gateway(server, upstream)


def config(upstream: Upstream) -> dict[str, Any]:
    def entry(alias: str, mode: str) -> dict[str, Any]:
        params = {"model": f"openai/{alias}", "api_base": upstream.url, "api_key": API_KEY}
        return {"model_name": alias, "litellm_params": params, "model_info": {"mode": mode}}

    entries = [entry("instruct", "completion"), entry("chatty", "chat"), entry("guard", "moderation")]
    return {"model_list": entries}


@pytest.fixture
def gateway(module_gateway: Gateway) -> Iterator[Gateway]:
    module_gateway.upstream.reset()
    module_gateway.upstream.on("instruct", continues())
    module_gateway.upstream.on("chatty", answers(TEXT, usage=(5, 6)))
    module_gateway.upstream.on("guard", moderates)
    yield module_gateway
    module_gateway.close_clients()


@pytest.mark.parametrize("model", ["instruct", "chatty"])
def test_text_is_continued(gateway: Gateway, model: str) -> None:
    """Whole, with the vendor's usage, under the alias; a chat model gets the prompt as a message."""
    client = gateway.openai()
    raw = client.completions.with_raw_response.create(model=model, prompt="When?", max_tokens=9, temperature=0)
    done = raw.parse()
    assert (done.object, done.model, done.choices[0].text) == ("text_completion", model, TEXT)
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.total_tokens == 11
    assert raw.headers["x-wattos-target"] == f"openai/{model}"
    (received,) = gateway.upstream.requests
    assert received.path == ("/v1/completions" if model == "instruct" else "/v1/chat/completions")
    assert received.body["max_tokens"] == 9
    asked = {"prompt": "When?"} if model == "instruct" else {"messages": [{"role": "user", "content": "When?"}]}
    assert received.body.items() >= asked.items()


@pytest.mark.parametrize("model", ["instruct", "chatty"])
@pytest.mark.parametrize("include_usage", [True, False])
def test_text_is_streamed(gateway: Gateway, model: str, include_usage: bool) -> None:
    """Piece by piece; usage for who asked alone."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}
    pieces = list(gateway.openai().completions.create(model=model, prompt="When?", stream=True, **options))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == TEXT
    assert {piece.model for piece in pieces} == {model}
    assert {piece.object for piece in pieces} == {"text_completion"}
    assert [piece.usage.total_tokens for piece in pieces if piece.usage] == ([11] if include_usage else [])
    finishes = [choice.finish_reason for piece in pieces for choice in piece.choices if choice.finish_reason]
    assert finishes == ["stop"]


@pytest.mark.parametrize("model", ["instruct", "chatty"])
def test_answers_are_as_published(gateway: Gateway, model: str) -> None:
    """Whole and in pieces, after OpenAI's own document: which has streams end with null, and lets no piece have it."""
    asked = {"model": model, "prompt": "When?"}
    assert wrong_in("CreateCompletionResponse", gateway.post(asked, "/v1/completions").json()) == []
    usage = {"stream_options": {"include_usage": True}}
    seen = seen_in(gateway.post({**asked, **usage, "stream": True}, "/v1/completions"))
    assert seen.is_done
    for body in seen.chunks:
        choices = [{**one, "finish_reason": one["finish_reason"] or "stop"} for one in body["choices"]]
        assert wrong_in("CreateCompletionResponse", {**body, "choices": choices}) == []


def test_stream_that_breaks_off_ends_with_one_error(gateway: Gateway, is_through_litellm: bool) -> None:
    """As chat's does."""
    if is_through_litellm:
        pytest.skip("litellm closes such a text with a `stop` of its own, which cannot be told from the target's")
    gateway.upstream.on("instruct", continues(finishes=False))
    body = {"model": "instruct", "prompt": "When?", "stream": True}
    events = gateway.post(body, "/v1/completions").text.split("\n\n")
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "upstream_unavailable"
    assert "[DONE]" not in "".join(events)


def test_chat_model_does_what_it_can(gateway: Gateway) -> None:
    """The prompt again before the answer, log-probabilities in the legacy shape, and clear words for the rest."""
    client = gateway.openai()
    assert client.completions.create(model="chatty", prompt="When? ", echo=True).choices[0].text == f"When? {TEXT}"
    assert client.completions.create(model="chatty", prompt=["When?"]).choices[0].text == TEXT
    for fields, param in (
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": "a", "suffix": "z"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="chatty", **fields)  # type: ignore[call-overload]
        assert refused.value.param == param


def test_tokens_and_several_prompts_reach_a_model_of_the_kind(gateway: Gateway) -> None:
    """What the target takes is the target's affair."""
    client = gateway.openai()
    for prompt in (["a", "b"], [1, 2, 3]):
        client.completions.create(model="instruct", prompt=prompt)  # type: ignore[arg-type]
        assert gateway.upstream.requests[-1].body["prompt"] == prompt


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a"}, "model"),
        ({"model": "instruct"}, "prompt"),
        ({"model": "instruct", "prompt": []}, "prompt"),
        ({"model": "instruct", "prompt": {"a": 1}}, "prompt"),
        ({"model": "instruct", "prompt": "a", "max_tokens": "many"}, "max_tokens"),
        ({"model": "instruct", "prompt": "a", "stream": "yes"}, "stream"),
        ({"model": "instruct", "prompt": "a", "fallbacks": 3}, "fallbacks"),
    ],
)
def test_wrong_fields_are_named(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    """And no vendor hears of them."""
    refused = gateway.post(body, "/v1/completions")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert not gateway.upstream.requests


def test_moderation_passes_through(gateway: Gateway) -> None:
    """With what the vendor says beyond OpenAI's fields; without a model the one that there is answers."""
    answered = gateway.openai().moderations.with_raw_response.create(input=["bad words"])
    assert answered.headers["x-wattos-target"] == "openai/guard"
    body = answered.http_response.json()
    assert wrong_in("CreateModerationResponse", body) == []
    assert body["model"] == "guard"
    assert body["results"][0]["flagged"] is True
    assert body["results"][0]["categories"]["violence"] is True
    assert gateway.upstream.requests[-1].body["input"] == ["bad words"]
    assert gateway.openai().moderations.create(model="guard", input="x").results[0].flagged


def test_moderation_refuses_what_is_none(gateway: Gateway) -> None:
    """Another kind of model, no input, and a vendor's failure."""
    assert gateway.post({"model": "chatty", "input": "x"}, "/v1/moderations").json()["error"]["param"] == "model"
    assert gateway.post({"model": "guard"}, "/v1/moderations").json()["error"]["param"] == "input"
    gateway.upstream.on("guard", fails(503))
    assert gateway.post({"model": "guard", "input": "x"}, "/v1/moderations").status_code == 502
    limited = gateway.server.make_key("one", models=["chatty"])
    assert gateway.post({"input": "x"}, "/v1/moderations", limited).status_code == 404
