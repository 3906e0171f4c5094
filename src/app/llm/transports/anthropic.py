"""Anthropic's own wire, passed through: only the model's name is replaced, on the way there and back.

What the client wrote reaches the target unharmed, unknown fields included; address and key come from the configuration
alone. https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from app.errors import UpstreamUnavailable
from app.llm.model import Call, Events, Reply, Target
from app.llm.transports.anthropic_events import AnthropicEvents
from app.llm.transports.anthropic_wire import (
    BETAS_FIELD,
    VERSION,
    WireUsage,
    refused,
    refused_in_answer,
    without_unsigned,
)
from app.llm.transports.refusals import said_in
from app.llm.transports.vendor_http import (
    COMMON_HEADERS,
    MAX_STREAM_BYTES,
    SessionOf,
    done_with,
    mapping,
    post,
    raw,
    unreachable,
    whole_object,
)
from app.llm.transports.whole_events import WholeEvents

ADDRESS = "https://api.anthropic.com"

BETA_HEADER = "anthropic-beta"

DEFAULTS = frozenset({"max_tokens", "temperature", "top_p", "top_k", "thinking", "metadata", "service_tier"})
"""What a configuration may give for requests that do not say it."""

COUNTED = frozenset({"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers"})
"""Fields that `count_tokens` takes; it refuses others. https://docs.anthropic.com/en/api/messages-count-tokens"""

ENVELOPE = frozenset({"model", "stream", BETAS_FIELD})
"""What each target's request has of its own."""

_TRUE = msgspec.Raw(b"true")


class AnthropicTransport:
    """The endpoint `messages`. One attempt a call: retries are the guard's."""

    def __init__(self, session: SessionOf) -> None:
        self._session = session

    async def complete(self, target: Target, call: Call) -> Reply:
        response = await self._post(target, "/v1/messages", call.fields, _body(target, call, {}))
        body = await _object(response, target)
        if "content" not in body:
            raise UpstreamUnavailable(f"{target.id} answered without an answer")
        body["model"] = msgspec.Raw(msgspec.json.encode(call.alias))
        return Reply(body=msgspec.json.encode(body), usage=_usage_of(body).usage)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        response = await self._post(target, "/v1/messages", call.fields, _body(target, call, {"stream": _TRUE}))
        made, whole, n_bytes = AnthropicEvents(target, call.alias), WholeEvents(), 0
        try:
            async for piece in response.content.iter_any():
                n_bytes += len(piece)
                if n_bytes > MAX_STREAM_BYTES:
                    raise UpstreamUnavailable(f"{target.id} sends without end")
                wire = whole.feed(piece)
                if wire and (events := made.read(wire)) is not None:
                    yield events
                if made.error is not None:
                    raise made.error
            if (wire := whole.last()) and (events := made.read(wire)) is not None:
                yield events
        except (aiohttp.ClientError, OSError) as exc:
            if not made.is_finished:  # who has said all may hang up as it likes
                raise unreachable(target, exc) from exc
        finally:
            done_with(response)
        if made.error is not None:
            raise made.error
        if not made.is_finished:
            raise UpstreamUnavailable(f"{target.id} broke off its answer")
        yield Events(wire=b"", usage=made.usage)

    async def count_tokens(self, target: Target, call: Call) -> int:
        """Input tokens, by the vendor's own count, which costs nothing. Raises: as `complete`."""
        fields = {name: raw for name, raw in call.fields.items() if name in COUNTED}
        body = _encoded(target, fields, {})
        response = await self._post(target, "/v1/messages/count_tokens", call.fields, body)
        counted = _usage_of({"usage": msgspec.Raw(msgspec.json.encode(await _object(response, target)))})
        if counted.input_tokens is None:
            raise UpstreamUnavailable(f"{target.id} answered without a count")
        return counted.input_tokens

    async def _post(
        self, target: Target, path: str, fields: Mapping[str, msgspec.Raw], body: bytes
    ) -> aiohttp.ClientResponse:
        """The response, whose status is 200. Raises: what any other one means."""
        times = aiohttp.ClientTimeout(total=None, sock_connect=target.timeouts.connect_s)
        return await post(
            self._session(target),
            target,
            URL(_base(target) + path),
            body,
            headers=_headers(target, fields),
            times=times,
            refused=refused,
        )


def _base(target: Target) -> str:
    """As litellm takes it: with or without the path."""
    base = str(target.params.get("api_base") or target.params.get("base_url") or ADDRESS).rstrip("/")
    return base.removesuffix("/messages").removesuffix("/v1")


def _headers(target: Target, fields: Mapping[str, msgspec.Raw]) -> CIMultiDict[str]:
    headers = CIMultiDict({**COMMON_HEADERS, "anthropic-version": VERSION})
    if key := target.params.get("api_key"):
        headers["x-api-key"] = str(key)
    for name, value in mapping(target.params.get("extra_headers")).items():
        headers[name] = str(value)
    if BETAS_FIELD in fields:
        try:
            betas = msgspec.json.decode(fields[BETAS_FIELD], type=list[str])
        except msgspec.DecodeError:
            betas = []
        known = [name.strip() for name in headers.get(BETA_HEADER, "").split(",") if name.strip()]
        if betas := [name for name in dict.fromkeys((*known, *betas)) if name.isascii() and name.isprintable()]:
            headers[BETA_HEADER] = ",".join(betas)
    return headers


def _body(target: Target, call: Call, own: Mapping[str, msgspec.Raw]) -> bytes:
    """The configuration's `temperature` and the like are defaults, its `extra_body` is not, as at LiteLLM's proxy."""
    defaults = {name: raw(value) for name, value in target.params.items() if name in DEFAULTS}
    overrides = {name: raw(value) for name, value in mapping(target.params.get("extra_body")).items()}
    return _encoded(target, {**defaults, **call.fields, **overrides}, own)


def _encoded(target: Target, fields: Mapping[str, msgspec.Raw], own: Mapping[str, msgspec.Raw]) -> bytes:
    passed = {name: raw for name, raw in fields.items() if name not in ENVELOPE}
    if "messages" in passed:
        passed["messages"] = without_unsigned(passed["messages"])
    return msgspec.json.encode({"model": target.provider_model.partition("/")[2], **passed, **own})


def _usage_of(body: Mapping[str, msgspec.Raw]) -> WireUsage:
    try:
        return msgspec.json.decode(body.get("usage", b"null"), type=WireUsage | None) or WireUsage()
    except (msgspec.DecodeError, RecursionError):
        return WireUsage()


async def _object(response: aiohttp.ClientResponse, target: Target) -> dict[str, msgspec.Raw]:
    """The JSON object of a whole answer, its values unread. Raises: what an error in its place means."""
    body, data = await whole_object(response, target)
    if bytes(body.get("error", b"null")) != b"null":
        raise refused_in_answer(target, said_in(data))
    return body
