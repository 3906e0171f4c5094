"""What every chat and every embedding transport keeps. A new one is one more row of `CHAT` or `EMBEDDING`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Literal

import msgspec
import pytest

from app.chat.extractive import ExtractiveTransport
from app.errors import InvalidRequest
from app.grounding import Answer, Citation, Grounding, Passage, RetrievalMode, Retrieved
from app.llm.events import payloads
from app.llm.model import Call, EmbeddingCall, EmbeddingTransport, Events, Target, Transport
from app.llm.prices import FREE
from app.llm.transports.bridge import BridgeTransport
from app.llm.transports.embedder import EmbedderTransport
from upstream import API_KEY, Upstream, answers, embeds, running_upstream

pytestmark = [
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),  # litellm's own types
    pytest.mark.filterwarnings("ignore:Accessing the 'model_.*:DeprecationWarning"),
]

PASSAGE = Passage(file_id="file_1", filename="a.md", text="The gate opens at nine.", start=0)
GROUNDING = Grounding("When does it open?", Retrieved((PASSAGE,), "vector"))

TARGET = Target(id="own", alias="own", provider_model="own", transport="embedder")


class Quoting:
    """An answerer that quotes the first passage."""

    async def answer(self, question: str, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> Answer:
        first = passages[0]
        quote = Citation(
            number=1, index=0, file_id="file_1", filename="a.md", quote=first.text, start=0, end=9, score=1
        )
        return Answer(found=True, text=f"{first.text}\nSecond line.", citations=(quote,))

    def instructions(self, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> str:
        return ""

    def cite(self, text: str, passages: Sequence[Passage]) -> Sequence[Citation]:
        return ()


class Embedded(msgspec.Struct):
    rows: list[list[float]]
    n_tokens: list[int]


class Measuring:
    """An embedder whose vectors are the lengths of the texts."""

    dimensions = 3

    async def embed_counted(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> Embedded:
        return Embedded([[float(len(text)), 0.5, 0.5] for text in texts], [1 for _ in texts])


class NoLocalModel:
    def address(self) -> tuple[str, str]:
        raise AssertionError("no test here calls the local model")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        running.on("gpt", answers("The gate opens at nine."))
        running.on("vec", embeds(3, shuffled=True))
        yield running


@pytest.fixture(scope="module")
def bridge() -> BridgeTransport:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # as cli.py and asgi.py do
    return BridgeTransport(NoLocalModel())


CHAT: dict[str, Callable[[BridgeTransport], Transport]] = {
    "openai/gpt": lambda bridge: bridge,
    "hosted_vllm/gpt": lambda bridge: bridge,
    "wattos/extractive": lambda _: ExtractiveTransport(Quoting()),
}
EMBEDDING: dict[str, Callable[[BridgeTransport], EmbeddingTransport]] = {
    "openai/vec": lambda bridge: bridge,
    "hosted_vllm/vec": lambda bridge: bridge,
    "wattos/embed": lambda _: EmbedderTransport(Measuring()),
}


def target_of(model: str, upstream: Upstream) -> Target:
    params = {"api_base": upstream.url, "api_key": API_KEY}
    return Target(id=model, alias="own", provider_model=model, transport="bridge", params=params, price=FREE)


def asking(*, include_usage: bool = False) -> Call:
    fields = {"messages": msgspec.Raw(b'[{"role": "user", "content": "When does it open?"}]')}
    return Call(alias="asked", fields=fields, include_usage=include_usage, grounding=GROUNDING)


@pytest.fixture(params=CHAT)
def chat(request: pytest.FixtureRequest, bridge: BridgeTransport, upstream: Upstream) -> tuple[Transport, Target]:
    return CHAT[request.param](bridge), target_of(request.param, upstream)


@pytest.fixture(params=EMBEDDING)
def embedding(
    request: pytest.FixtureRequest, bridge: BridgeTransport, upstream: Upstream
) -> tuple[EmbeddingTransport, Target]:
    return EMBEDDING[request.param](bridge), target_of(request.param, upstream)


def json_of(events: Events) -> dict[str, Any]:
    (data,) = payloads(events.wire)
    return msgspec.json.decode(data, type=dict[str, Any])


async def read(chunks: AsyncIterator[Events]) -> list[Events]:
    return [chunk async for chunk in chunks]


async def test_whole_answer_is_a_chat_completion_of_the_alias(chat: tuple[Transport, Target]) -> None:
    """The alias that was asked for, one choice that finished, and what it used."""
    transport, target = chat
    reply = await transport.complete(target, asking())
    body = msgspec.json.decode(reply.body)
    (choice,) = body["choices"]
    assert (body["object"], body["model"], choice["finish_reason"]) == ("chat.completion", "asked", "stop")
    assert {"id", "created", "usage"} <= body.keys()
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].startswith("The gate opens at nine.")
    assert reply.usage is not None


async def test_stream_says_the_same_as_the_whole_answer(chat: tuple[Transport, Target]) -> None:
    """Chunk by chunk, role first, finish last."""
    transport, target = chat
    whole = msgspec.json.decode((await transport.complete(target, asking())).body)
    bodies = [json_of(chunk) for chunk in await read(transport.stream(target, asking())) if chunk.wire]
    assert {(b["object"], b["model"]) for b in bodies} == {("chat.completion.chunk", "asked")}
    assert bodies[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [b["choices"][0]["finish_reason"] for b in bodies] == [None] * (len(bodies) - 1) + ["stop"]
    text = "".join(b["choices"][0]["delta"].get("content") or "" for b in bodies)
    assert text == whole["choices"][0]["message"]["content"]


async def test_usage_is_reported_always_and_shown_when_asked_for(chat: tuple[Transport, Target]) -> None:
    """On the last chunk, which has no choices; it has no bytes for a client that did not ask."""
    transport, target = chat
    hidden = await read(transport.stream(target, asking()))
    shown = await read(transport.stream(target, asking(include_usage=True)))
    for chunks in (hidden, shown):
        assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert hidden[-1].wire == b""
    last = json_of(shown[-1])
    assert (last["choices"], last["x_wattos"]) == ([], {"cost_nusd": 0})
    assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= last["usage"].keys()


async def test_stream_may_be_closed_early(chat: tuple[Transport, Target]) -> None:
    """And the transport is as good as before."""
    transport, target = chat
    async with aclosing(transport.stream(target, asking())) as chunks:  # type: ignore[type-var]
        await anext(chunks)
    assert await transport.complete(target, asking())


async def test_vectors_are_in_the_order_of_the_texts(embedding: tuple[EmbeddingTransport, Target]) -> None:
    """One for each, whatever order the target answers in, with the tokens that went in."""
    transport, target = embedding
    vectors = await transport.embed(target, EmbeddingCall(alias="asked", texts=("a", "bbb", "cc")))
    assert [list(row) for row in vectors.rows] == [[1.0, 0.5, 0.5], [3.0, 0.5, 0.5], [2.0, 0.5, 0.5]]
    assert vectors.usage is not None
    assert vectors.usage.input_tokens > 0


async def test_documents_are_needed_where_only_documents_are_quoted() -> None:
    """A call without grounding is the client's mistake, not a target's failure."""
    transport = ExtractiveTransport(Quoting())
    call = msgspec.structs.replace(asking(), grounding=None)
    with pytest.raises(InvalidRequest):
        await transport.complete(msgspec.structs.replace(TARGET, transport="extractive"), call)


async def test_embedder_of_this_machine_has_one_size() -> None:
    """Asked for another one, it says which it has."""
    call = EmbeddingCall(alias="wattos-embed", texts=("a",), dimensions=7)
    with pytest.raises(InvalidRequest, match="3 dimensions"):
        await EmbedderTransport(Measuring()).embed(TARGET, call)
