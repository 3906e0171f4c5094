"""Whether a server gives the whole answer: a gateway that leaves something out would be cheap without merit."""

from __future__ import annotations

import http.client
import json
from typing import Any

from bench.gateway.cases import MODEL
from bench.gateway.servers import ANSWER_TIMEOUT_S, Measured
from bench.gateway.upstream import TEXT, USAGE

WHOLE = "".join(TEXT)


class WrongAnswer(Exception):
    """What came instead."""


def check(server: Measured) -> None:
    """One plain call and one stream. Raises: WrongAnswer unless both say what the upstream says, chunk by chunk."""
    plain = json.loads(_answer(server)[0])
    if plain["choices"][0]["message"]["content"] != WHOLE or plain["usage"]["total_tokens"] != USAGE["total_tokens"]:
        raise WrongAnswer(f"{server.name}, plain: {plain}")
    events = _answer(server, stream=True)[0].decode().strip().split("\n\n")
    chunks: list[dict[str, Any]] = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    deltas = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    if [delta for delta in deltas if delta] != TEXT or events[-1] != "data: [DONE]":
        raise WrongAnswer(f"{server.name}, stream: {events}")


def check_hit(server: Measured) -> None:
    """Raises: WrongAnswer unless a call that was answered before is answered from the cache."""
    told = [_answer(server, cache={"mode": "readwrite"})[1] for _ in range(2)]
    if told[-1] != "hit":
        raise WrongAnswer(f"{server.name}, cached: {told}")


def _answer(server: Measured, **fields: object) -> tuple[bytes, str | None]:
    """Returns: its body, and what is told of the cache."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "check"}], **fields}
    headers = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise WrongAnswer(f"{server.name}: {answer.status} {data[:500]!r}")
    return data, answer.getheader("x-wattos-cache")
