"""OpenAI's wire, bytes through: the request is decoded at its top level only, answers hardly at all.

What the client wrote reaches the target unharmed, unknown fields included; ours are the model's name, the wish for
usage, and the address and key, which come from the configuration alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from app.errors import UpstreamUnavailable
from app.llm.model import Call, EmbeddingCall, Events, LocalEndpoint, Reply, Target, Vectors
from app.llm.parameters import ENVELOPE, PARAMETERS
from app.llm.transports.openai_chunks import OpenAIChunks
from app.llm.transports.pool import READ_BUFFER_BYTES
from app.llm.transports.refusals import error_in_answer, refusal
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
from app.llm.usage import usage_of

HURRY_S = 0.0005
"""Pieces that follow each other faster are gathered for as long: who sends two thousand a second is not a person's
reading speed ahead, and each piece costs 20 µs of system calls (measured). The first one is never held back."""

MAX_PREPARED = 2_000
"""Targets whose calls are prepared: more than a configuration has, wildcards' made ones among them."""

_TRUE = msgspec.Raw(b"true")
_PROMISED = {"chat/completions": "choices", "completions": "choices", "moderations": "results"}


class _Prepared(msgspec.Struct, frozen=True):
    """What all calls to a target have in common."""

    target: Target
    base: str
    headers: CIMultiDict[str]
    model: msgspec.Raw
    defaults: Mapping[str, msgspec.Raw]
    overrides: Mapping[str, msgspec.Raw]
    timeout: aiohttp.ClientTimeout
    urls: dict[str, URL]


class DirectTransport:
    """Chat, completions, moderations and embeddings. One attempt a call: retries are the guard's."""

    def __init__(self, session: SessionOf, local: LocalEndpoint) -> None:
        self._session = session
        self._local = local
        self._prepared: dict[str, _Prepared] = {}

    async def complete(self, target: Target, call: Call) -> Reply:
        prepared = self._prepare(target)
        response = await self._post(prepared, call.endpoint, _body(prepared, call.fields, {}))
        body = await self._object(response, target)
        if _PROMISED.get(call.endpoint, "choices") not in body:
            raise UpstreamUnavailable(f"{target.id} answered without an answer")
        counted = body.get("usage")
        body["model"] = msgspec.Raw(msgspec.json.encode(call.alias))
        return Reply(body=msgspec.json.encode(body), usage=usage_of(counted) if counted is not None else None)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        """Usage is always asked for upstream; its chunk reaches the client only if the client asked too."""
        prepared = self._prepare(target)
        own = {"stream": _TRUE, "stream_options": _with_usage(call.fields.get("stream_options"))}
        response = await self._post(prepared, call.endpoint, _body(prepared, call.fields, own))
        chunks, whole, n_bytes = OpenAIChunks(target, call), WholeEvents(), 0
        clock, read_s = asyncio.get_running_loop().time, 0.0
        try:
            async for piece in response.content.iter_chunked(READ_BUFFER_BYTES):
                n_bytes += len(piece)
                if n_bytes > MAX_STREAM_BYTES:
                    raise UpstreamUnavailable(f"{target.id} sends without end")
                wire = whole.feed(piece)
                if wire and (events := chunks.read(wire)) is not None:
                    yield events
                if chunks.failure is not None:
                    raise chunks.failure
                before_s, read_s = read_s, clock()
                if read_s - before_s < HURRY_S:
                    await asyncio.sleep(HURRY_S)
            if (wire := whole.last()) and (events := chunks.read(wire)) is not None:
                yield events
            if chunks.failure is not None:
                raise chunks.failure
        except (aiohttp.ClientError, OSError) as exc:
            if not chunks.is_finished:  # who has said all may hang up as it likes
                raise unreachable(target, exc) from exc
        finally:
            done_with(response)
        if not chunks.is_finished:
            raise UpstreamUnavailable(f"{target.id} broke off its answer")
        if (events := chunks.usage_event()) is not None:
            yield events

    async def embed(self, target: Target, call: EmbeddingCall) -> Vectors:
        prepared = self._prepare(target)
        fields: dict[str, Any] = {**call.extra, "input": call.texts, "encoding_format": "float"}
        if call.dimensions is not None:
            fields["dimensions"] = call.dimensions
        response = await self._post(prepared, "embeddings", _body(prepared, fields, {}))
        body = await self._object(response, target)
        try:
            data = msgspec.json.decode(body["data"], type=list[_Row])
        except (KeyError, msgspec.DecodeError):
            raise UpstreamUnavailable(f"{target.id} answered with something other than vectors") from None
        if len(data) != len(call.texts):
            raise UpstreamUnavailable(f"{target.id} answered {len(data)} vectors for {len(call.texts)} texts")
        counted = body.get("usage")
        return Vectors(
            rows=[row.embedding for row in sorted(data, key=lambda row: row.index)],
            usage=usage_of(counted) if counted is not None else None,
        )

    async def _post(self, prepared: _Prepared, endpoint: str, body: bytes) -> aiohttp.ClientResponse:
        """The response, whose status is 200. Raises: what any other one means."""
        target = prepared.target
        url = prepared.urls.get(endpoint)
        if url is None:
            url = prepared.urls[endpoint] = URL(f"{prepared.base}/{endpoint}")
        return await post(
            self._session(target),
            target,
            url,
            body,
            headers=prepared.headers,
            times=prepared.timeout,
            refused=refusal,
        )

    async def _object(self, response: aiohttp.ClientResponse, target: Target) -> dict[str, msgspec.Raw]:
        """The JSON object of a whole answer, its values unread. Raises: what an error in its place means."""
        body, _ = await whole_object(response, target)
        error = body.get("error")
        if error is not None and bytes(error) != b"null":
            raise error_in_answer(target, bytes(error))
        return body

    def _prepare(self, target: Target) -> _Prepared:
        name = f"{target.id} {target.own_key_id}" if target.own_key_id else target.id
        known = self._prepared.get(name)
        if known is not None and known.target is target and not target.is_local:
            return known
        params = target.params
        base, key = (str(params.get("api_base", "")), str(params.get("api_key", "")))
        if target.is_local:
            base, key = self._local.address()
        headers = CIMultiDict(COMMON_HEADERS)
        if key:
            headers["authorization"] = f"Bearer {key}"
        if organization := params.get("organization"):
            headers["openai-organization"] = str(organization)
        for name, value in mapping(params.get("extra_headers")).items():
            headers[name] = str(value)
        prepared = _Prepared(
            target=target,
            base=base.rstrip("/"),
            headers=headers,
            model=raw(target.provider_model.partition("/")[2]),
            defaults={name: raw(value) for name, value in params.items() if name in PARAMETERS},
            overrides={name: raw(value) for name, value in mapping(params.get("extra_body")).items()},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=target.timeouts.connect_s),
            urls={},
        )
        if len(self._prepared) >= MAX_PREPARED:
            self._prepared.clear()
        self._prepared[name] = prepared
        return prepared


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int = 0


def _body(prepared: _Prepared, fields: Mapping[str, Any], own: Mapping[str, msgspec.Raw]) -> bytes:
    """The configuration's `temperature` and the like are defaults, its `extra_body` is not, as at LiteLLM's proxy."""
    body = {**prepared.defaults, **fields, **prepared.overrides}
    for name in ENVELOPE:
        body.pop(name, None)
    return msgspec.json.encode({"model": prepared.model, **body, **own})


def _with_usage(wanted: msgspec.Raw | None) -> msgspec.Raw:
    options: dict[str, Any] = (msgspec.json.decode(wanted) if wanted is not None else None) or {}
    return raw({**options, "include_usage": True})
