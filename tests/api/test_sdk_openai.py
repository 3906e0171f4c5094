"""OpenAI's official Python SDK as a client: what its users rely on, helpers, retries and exceptions included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam

from gateway import Gateway
from nasty_gateway import TRANSPORTS, running_nasty
from transport_cases import CASES, TOOL
from upstream import answers, embeds, fails, hangs, says

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "ping"}]


class Town(pydantic.BaseModel):
    """What the structured answer is parsed into."""

    name: str
    size: Literal["small", "large"]
    twins: list[str]


class Weather(pydantic.BaseModel):
    """The arguments of a tool that the SDK parses."""

    town: str


@pytest.fixture(scope="module", params=TRANSPORTS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_nasty(tmp_path_factory.mktemp("sdk"), request.param) as started:
        yield started


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.upstream.reset()
    return running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with gateway.openai() as made:
        yield made


def retrying(gateway: Gateway, **options: Any) -> openai.OpenAI:
    """A client as most users make it: it retries twice by itself."""
    return openai.OpenAI(base_url=f"{gateway.server.url}/v1", api_key=gateway.key, timeout=30, **options)


def test_chat(client: openai.OpenAI, gateway: Gateway) -> None:
    """Typed, with usage and the id of the request."""
    gateway.upstream.on("gpt", answers("Hello", usage=(7, 3)))
    done = client.chat.completions.create(model="chat", messages=MESSAGES, temperature=0.5, seed=7)
    assert (done.choices[0].message.content, done.model) == ("Hello", "chat")
    assert done.usage is not None
    assert done.usage.total_tokens == 10
    assert done._request_id
    sent = gateway.upstream.requests[0].body
    assert (sent["temperature"], sent["seed"], "stream" in sent and sent["stream"]) == (0.5, 7, False)


async def test_chat_of_the_async_client(gateway: Gateway) -> None:
    """The same through asyncio, streamed."""
    gateway.upstream.on("gpt", answers("Hello world"))
    async with openai.AsyncOpenAI(base_url=f"{gateway.server.url}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Hello world"


def test_raw_response_has_the_trail(client: openai.OpenAI) -> None:
    """`with_raw_response`: our headers beside the parsed answer."""
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    assert raw.headers["x-wattos-target"] == "openai/gpt"
    assert raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content == "pong"


def test_stream_helper_accumulates(client: openai.OpenAI, gateway: Gateway) -> None:
    """`chat.completions.stream`: its events in order, and its final completion as if it had been whole."""
    gateway.upstream.on("gpt", answers("Hello world", usage=(7, 3)))
    with client.chat.completions.stream(
        model="chat", messages=MESSAGES, stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("content.delta") >= 2
    assert kinds.count("content.done") == 1
    assert final.choices[0].message.content == "Hello world"
    assert final.usage is not None
    assert final.usage.total_tokens == 10


def test_closing_a_stream_early_leaves_the_vendor(client: openai.OpenAI, gateway: Gateway) -> None:
    """`stream.close()`, as a user interface does when its user presses Stop."""
    gateway.upstream.on("gpt", answers("Hello world", hold_after=2))
    stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s, timeout_s=1)


@pytest.mark.parametrize("name", ["tools", "parallel tools"])
def test_tools(client: openai.OpenAI, gateway: Gateway, name: str) -> None:
    """Whole and accumulated from a stream they are the same calls."""
    gateway.upstream.on("gpt", CASES[name].answer())
    tools: Any = [TOOL]
    whole = client.chat.completions.create(model="chat", messages=MESSAGES, tools=tools).choices[0]
    with client.chat.completions.stream(model="chat", messages=MESSAGES, tools=tools) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert whole.finish_reason == streamed.finish_reason == "tool_calls"
    assert whole.message.tool_calls
    assert streamed.message.tool_calls
    for one, other in zip(whole.message.tool_calls, streamed.message.tool_calls, strict=True):
        assert one.type == "function"
        assert (one.id, one.function.name) == (other.id, other.function.name)
        assert one.function.arguments == other.function.arguments


def test_tool_helper_parses_arguments(client: openai.OpenAI, gateway: Gateway) -> None:
    """`openai.pydantic_function_tool` with `parse`: arguments arrive as the model's class."""
    gateway.upstream.on("gpt", CASES["tools"].answer())
    tool = openai.pydantic_function_tool(Weather, name="weather")
    done = client.chat.completions.parse(model="chat", messages=MESSAGES, tools=[tool])
    assert done.choices[0].message.tool_calls
    assert done.choices[0].message.tool_calls[0].function.parsed_arguments == Weather(town="Köln")


def test_structured_output_is_parsed(client: openai.OpenAI, gateway: Gateway) -> None:
    """`parse`: the schema reaches the vendor as the SDK made it, the answer is an instance."""
    gateway.upstream.on("gpt", answers('{"name": "Köln", "size": "large", "twins": ["Kyōto"]}'))
    done = client.chat.completions.parse(model="chat", messages=MESSAGES, response_format=Town)
    assert done.choices[0].message.parsed == Town(name="Köln", size="large", twins=["Kyōto"])
    sent = gateway.upstream.requests[0].body["response_format"]
    assert sent["json_schema"]["strict"] is True
    assert sent["json_schema"]["schema"]["required"] == ["name", "size", "twins"]
    assert sent["json_schema"]["schema"]["additionalProperties"] is False


def test_an_answer_cut_short_is_not_parsed(client: openai.OpenAI, gateway: Gateway) -> None:
    """`finish_reason: length` arrives, so the SDK raises its own error for it."""
    gateway.upstream.on("gpt", CASES["cut short"].answer())
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="chat", messages=MESSAGES, response_format=Town)


def test_a_refusal_is_a_refusal(client: openai.OpenAI, gateway: Gateway) -> None:
    """Whole and streamed; nothing is parsed of it."""
    gateway.upstream.on("gpt", CASES["a refusal"].answer())
    done = client.chat.completions.parse(model="chat", messages=MESSAGES, response_format=Town)
    assert (done.choices[0].message.refusal, done.choices[0].message.parsed) == ("I cannot.", None)
    with client.chat.completions.stream(model="chat", messages=MESSAGES, response_format=Town) as stream:
        assert stream.get_final_completion().choices[0].message.refusal == "I cannot."


def test_logprobs(client: openai.OpenAI, gateway: Gateway) -> None:
    """To the last digit."""
    gateway.upstream.on("gpt", CASES["logprobs"].answer())
    done = client.chat.completions.create(model="chat", messages=MESSAGES, logprobs=True, top_logprobs=2)
    assert done.choices[0].logprobs is not None
    assert done.choices[0].logprobs.content is not None
    assert done.choices[0].logprobs.content[0].logprob == -0.12345678901234567


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: openai.OpenAI, gateway: Gateway, encoding: Literal["float", "base64"]) -> None:
    """Unasked the SDK wants base64 and decodes it: its numbers are those of a float."""
    gateway.upstream.on("vec", embeds())
    unasked = client.embeddings.create(model="vectors", input=["a", "bbb"])
    assert [row.embedding for row in unasked.data] == [[1.0, 0.5, 0.5], [3.0, 0.5, 0.5]]
    made = client.embeddings.create(model="vectors", input=["a", "bbb"], encoding_format=encoding)
    assert len(made.data) == 2
    assert isinstance(made.data[0].embedding, str if encoding == "base64" else list)


def test_models(client: openai.OpenAI) -> None:
    """The list pages by itself; one is found, another is not."""
    names = [model.id for model in client.models.list()]
    assert {"chat", "doomed", "vectors", "seamed"} <= set(names)
    assert client.models.retrieve("chat").object == "model"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("nobody")
    assert raised.value.code == "model_not_found"


ERRORS: dict[int, tuple[type[openai.APIStatusError], str]] = {
    400: (openai.BadRequestError, "upstream_rejected"),
    401: (openai.InternalServerError, "upstream_misconfigured"),
    404: (openai.InternalServerError, "upstream_misconfigured"),
    408: (openai.InternalServerError, "upstream_timeout"),
    422: (openai.BadRequestError, "upstream_rejected"),
    429: (openai.RateLimitError, "upstream_rate_limited"),
    500: (openai.InternalServerError, "upstream_unavailable"),
    503: (openai.InternalServerError, "upstream_unavailable"),
}
"""What a vendor's status is to the SDK's user: our own credential is never the user's fault."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ERRORS)
def test_errors_have_the_sdks_classes(client: openai.OpenAI, gateway: Gateway, status: int, stream: bool) -> None:
    """With our stable code, the message and the request's id."""
    kind, code = ERRORS[status]
    gateway.upstream.on("gpt", fails(status, "because"))
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="chat", messages=MESSAGES, stream=stream)
    assert type(raised.value) is kind
    assert (raised.value.code, bool(raised.value.request_id), bool(raised.value.message)) == (code, True, True)


def test_errors_of_ours_have_the_sdks_classes(client: openai.OpenAI, gateway: Gateway) -> None:
    """A wrong key, an unknown model, a bad field."""
    with pytest.raises(openai.AuthenticationError):
        gateway.openai(key="sk-wattos-nobody").chat.completions.create(model="chat", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="chat", messages="x")  # type: ignore[arg-type]
    assert raised.value.param == "messages"


def test_too_long_has_openais_own_code(client: openai.OpenAI, gateway: Gateway) -> None:
    """Frameworks shorten the conversation when they read it."""
    gateway.upstream.on("gpt", fails(400, "maximum context length is 8 tokens", code="context_length_exceeded"))
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="chat", messages=MESSAGES)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")


def test_a_stream_that_breaks_raises(client: openai.OpenAI, gateway: Gateway) -> None:
    """Behind the text that came: an APIError, never a text that looks finished."""
    gateway.upstream.on("gpt", answers("Hello world", die_after=2))
    text = ""
    with pytest.raises(openai.APIError) as raised:  # noqa: PT012  # what came before it counts, too
        for chunk in client.chat.completions.create(model="chat", messages=MESSAGES, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "Hello "
    assert raised.value.code == "upstream_unavailable"


def test_retries_wait_as_asked_and_succeed(gateway: Gateway) -> None:
    """429 with `retry-after: 1`, then an answer: the user sees only that it took a second."""
    gateway.upstream.on("gpt", fails(429, retry_after="1"), answers("Hello"))
    began_s = time.monotonic()
    with retrying(gateway) as client:
        done = client.chat.completions.create(model="chat", messages=MESSAGES)
    assert done.choices[0].message.content == "Hello"
    assert 1.0 <= time.monotonic() - began_s < 3.0
    assert len(gateway.upstream.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 422])
def test_what_is_useless_is_not_retried(gateway: Gateway, status: int) -> None:
    """`x-should-retry: false` where the SDK would else try again: a 502 for a refused key of ours."""
    gateway.upstream.on("gpt", fails(status))
    with retrying(gateway) as client, pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="chat", messages=MESSAGES)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(gateway.upstream.requests) == 1


def test_what_passes_is_retried(gateway: Gateway) -> None:
    """A vendor's 503, and a page of HTML."""
    gateway.upstream.on("gpt", fails(503), says("<html>", kind="text/html"), answers("Hello"))
    with retrying(gateway) as client:
        assert client.chat.completions.create(model="chat", messages=MESSAGES).choices[0].message.content == "Hello"
    assert len(gateway.upstream.requests) == 3


def test_the_sdks_own_timeout_leaves_the_vendor(gateway: Gateway) -> None:
    """It hangs up, and so do we."""
    gateway.upstream.on("gpt", hangs)
    with retrying(gateway, max_retries=0) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="chat", messages=MESSAGES, timeout=0.3)
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s, timeout_s=1)
