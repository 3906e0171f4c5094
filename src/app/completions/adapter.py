"""The legacy wire over chat: for targets that only chat, the prompt becomes a message and the answer a text.

Targets that serve completions themselves get the request as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from app.completions.model import Prompt
from app.errors import InvalidRequest, UpstreamUnavailable
from app.llm.events import event, payloads
from app.llm.model import Call, Events, Reply, Target, Transport

NOT_OF_CHAT = frozenset({"prompt", "suffix", "best_of", "echo", "logprobs"})
"""Fields that a chat model has not, or has otherwise."""


class AsCompletions:
    """A `Transport` for the endpoint `completions` over one for chat."""

    def __init__(self, chat: Transport) -> None:
        self._chat = chat

    async def complete(self, target: Target, call: Call) -> Reply:
        if target.mode == "completion":
            return await self._chat.complete(target, call)
        reply = await self._chat.complete(target, _as_chat(call))
        body = _text_completion(_decoded(reply.body, target), _echo_of(call))
        return Reply(body=msgspec.json.encode(body), usage=reply.usage)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        chat = self._chat.stream(target, call if target.mode == "completion" else _as_chat(call))
        echo = _echo_of(call)
        async with aclosing(chat):  # type: ignore[type-var]  # transports give async generators
            async for piece in chat:
                if target.mode == "completion":
                    yield piece
                    continue
                bodies = [_text_completion(_decoded(data, target), echo) for data in payloads(piece.wire)]
                echo = "" if any(body["choices"] for body in bodies) else echo
                wire = b"".join(event(msgspec.json.encode(body)) for body in bodies)
                yield msgspec.structs.replace(piece, wire=wire)


def _as_chat(call: Call) -> Call:
    """Raises: InvalidRequest for what no chat model can do."""
    prompt = msgspec.json.decode(call.fields["prompt"], type=Prompt)
    texts = [prompt] if isinstance(prompt, str) else prompt
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise InvalidRequest(f"{call.alias} is a chat model and takes one text as prompt", param="prompt")
    fields: dict[str, Any] = {name: value for name, value in call.fields.items() if name not in NOT_OF_CHAT}
    fields["messages"] = _raw([{"role": "user", "content": texts[0]}])
    for name in ("suffix", "best_of"):
        if bytes(call.fields.get(name, b"null")) not in {b"null", b'""', b"1"}:
            raise InvalidRequest(
                f"{call.alias} is a chat model and has no {name}", param=name, code="unsupported_parameter"
            )
    n_logprobs = msgspec.json.decode(call.fields.get("logprobs", b"null"))
    if n_logprobs is not None:
        fields |= {"logprobs": _raw(True), "top_logprobs": _raw(n_logprobs)}
    return msgspec.structs.replace(call, endpoint="chat/completions", fields=fields)


def _echo_of(call: Call) -> str:
    """What `echo` puts before the answer."""
    if not msgspec.json.decode(call.fields.get("echo", b"null")):
        return ""
    prompt = msgspec.json.decode(call.fields["prompt"])
    return prompt if isinstance(prompt, str) else str(prompt[0])


def _text_completion(body: dict[str, Any], echo: str) -> dict[str, Any]:
    """Of a chat completion, or of one of its chunks."""
    choices: list[dict[str, Any]] = []
    for choice in body.get("choices") or ():
        said: Mapping[str, Any] = choice.get("message") or choice.get("delta") or {}
        choices.append(
            {
                "index": choice.get("index", 0),
                "text": echo + (said.get("content") or ""),
                "logprobs": _logprobs(choice.get("logprobs")),
                "finish_reason": choice.get("finish_reason"),
            }
        )
    return {**body, "object": "text_completion", "choices": choices}


def _logprobs(chat: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Chat's list of tokens as the legacy wire's four lists. Offsets count code points of the answer."""
    if not chat or not chat.get("content"):
        return None
    tokens = [str(one["token"]) for one in chat["content"]]
    offsets = [sum(map(len, tokens[:n])) for n in range(len(tokens))]
    return {
        "tokens": tokens,
        "token_logprobs": [one.get("logprob") for one in chat["content"]],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in one.get("top_logprobs") or ()} for one in chat["content"]
        ],
        "text_offset": offsets,
    }


def _decoded(data: bytes, target: Target) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        raise UpstreamUnavailable(f"{target.id} answered with something that is not JSON") from None


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
