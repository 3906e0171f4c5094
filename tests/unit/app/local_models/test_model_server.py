"""The real model server in its real child, asked by the official client."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from app.local_models.errors import LocalModelUnavailable
from app.local_models.model_server import MODEL, LocalModelServer
from app.local_models.supervisor import Phase, RestartPolicy
from app.local_models.weights import SMOLLM2
from unit.app.local_models.support import eventually

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture
async def client(model_server: LocalModelServer) -> AsyncIterator[openai.AsyncOpenAI]:
    endpoint = model_server.endpoint()
    async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0) as client:
        yield client


async def test_a_plain_completion_answers_with_usage(client: openai.AsyncOpenAI) -> None:
    """`POST /v1/chat/completions`, as any OpenAI provider."""
    done = await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8)
    assert done.choices[0].message.content
    assert done.model == MODEL
    assert done.usage is not None
    assert 0 < done.usage.completion_tokens <= 8


async def test_a_stream_comes_in_pieces_and_ends_with_usage(client: openai.AsyncOpenAI) -> None:
    """Streamed as it is generated; `stream_options.include_usage` gives one last chunk without choices."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert [chunk for chunk in chunks[:-1] if chunk.usage] == []


async def test_a_prompt_over_the_context_is_refused(client: openai.AsyncOpenAI) -> None:
    """400 with the reason, not a truncated prompt."""
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 5000}])


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_caller_without_the_key_is_refused(model_server: LocalModelServer, key: str) -> None:
    """Other users of this machine can reach the port, but not the model."""
    base_url = model_server.endpoint().base_url
    async with openai.AsyncOpenAI(base_url=base_url, api_key=key or "none", max_retries=0) as stranger:
        headers = None if key else {"authorization": ""}
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(
                model=MODEL,
                messages=QUESTION,
                extra_headers=headers,
            )


async def test_the_server_listens_on_loopback_only_and_hides_its_key(model_server: LocalModelServer) -> None:
    """127.0.0.1 and nothing else; the key is in no place where `ps` shows it, nor in a log of the endpoint."""
    endpoint = model_server.endpoint()
    port = int(endpoint.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    pid = model_server.state.pid
    rows = [
        row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()
    ]
    listening = [row[1] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
    assert listening == [f"0100007F:{port:04X}"]
    for place in ("cmdline", "environ"):
        assert endpoint.api_key.encode() not in Path(f"/proc/{pid}/{place}").read_bytes()
    assert endpoint.api_key not in repr(endpoint)


async def test_missing_weights_are_said_and_noticed_when_they_come(tmp_path: Path, weights: Path) -> None:
    """A server that was started before `wattos models pull` needs no restart."""
    server = LocalModelServer(tmp_path / SMOLLM2.filename, env=os.environ, policy=RestartPolicy(recheck_s=0.05))
    with pytest.raises(LocalModelUnavailable, match="not running"):
        server.endpoint()
    await server.start()
    try:
        await eventually(lambda: server.state.phase is Phase.BACKOFF, "it sees that nothing is there")
        with pytest.raises(LocalModelUnavailable, match="`wattos models pull`") as missing:
            server.endpoint()
        assert missing.value.retryable
        (tmp_path / SMOLLM2.filename).symlink_to(weights)
        await eventually(lambda: server.state.phase is Phase.READY, "it starts by itself")
        assert server.endpoint().base_url.startswith("http://127.0.0.1:")
    finally:
        await server.stop()


async def test_broken_weights_are_a_clear_state(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A truncated GGUF: not a crash of ours; the log says what llama.cpp found."""
    caplog.set_level(logging.WARNING, "app")  # apps built by other tests in this process may have set another
    broken = tmp_path / "broken.gguf"
    with weights.open("rb") as whole, broken.open("wb") as part:
        shutil.copyfileobj(whole, part)
        part.truncate(5_000_000)
    server = LocalModelServer(broken, env=os.environ)
    await server.start()
    try:
        await eventually(lambda: server.state.restarts > 0, "it fails")
        with pytest.raises(LocalModelUnavailable, match="it is started again in"):
            server.endpoint()
        assert [message for message in caplog.messages if "corrupted or incomplete" in message]
    finally:
        await server.stop()
