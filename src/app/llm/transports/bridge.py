"""Every vendor, through litellm: the only module that imports it, in a thread, on first need (2 s and 190 MB).

Only documented parameters are handed to litellm by name. It would take `api_base`, `api_key` and dozens more from its
arguments, and those come from the configuration alone, never from a client's body.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from app.errors import UpstreamUnavailable
from app.llm.events import event
from app.llm.model import Call, EmbeddingCall, Events, LocalEndpoint, Reply, Target, Vectors
from app.llm.parameters import ENVELOPE, PARAMETERS, TEXT_PARAMETERS
from app.llm.transports.chunks import Source, cleaned, is_token_of, of_text, says_something
from app.llm.transports.failures import translated
from app.llm.transports.openai_chunks import usage_chunk
from app.llm.usage import usage_of_mapping
from plugins.contract.work import worked_for_model

SPEAKS_OPENAI = frozenset(
    {"openai", "azure", "hosted_vllm", "openrouter", "groq", "deepseek", "together_ai", "mistral"}
)
"""Providers to which a field that we do not know is passed through in the body, unharmed."""


STREAMING = {"stream": True, "stream_options": {"include_usage": True}}


class BridgeTransport:
    """Chat and embeddings through litellm. One attempt per call: retries are the guard's."""

    def __init__(self, local: LocalEndpoint) -> None:
        self._local = local
        self._litellm: Any = None
        self._httpx: Any = None
        self._is_internal_call: Any = None
        self._loading = asyncio.Lock()

    async def complete(self, target: Target, call: Call) -> Reply:
        litellm = await self._load()
        with translated(litellm, target):
            if call.endpoint == "moderations":
                response = await litellm.amoderation(**self._plain_arguments(target, call, frozenset({"input"})))
                body = {**response.model_dump(), "model": call.alias}
                return Reply(body=msgspec.json.encode(body), usage=None)
            if call.endpoint == "completions":
                response = await litellm.atext_completion(**self._plain_arguments(target, call, TEXT_PARAMETERS))
            else:
                response = await litellm.acompletion(**self._arguments(target, call))
            _own_work(response)
            body = response.model_dump(exclude_none=True)
        if not body.get("choices"):
            raise UpstreamUnavailable(f"{target.id} answered without an answer")
        if call.endpoint == "completions":
            return Reply(body=msgspec.json.encode(of_text(body, call.alias)), usage=usage_of_mapping(body.get("usage")))
        usage = usage_of_mapping(body.get("usage"))
        if usage is None:
            body.pop("usage", None)  # zeros: litellm's stand-in for a target that counted nothing
        return Reply(body=msgspec.json.encode(cleaned(body, call.alias, "message")), usage=usage)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        """Usage is always asked for upstream; its chunk reaches the client only if the client asked too."""
        litellm = await self._load()
        if call.endpoint == "completions":
            async for events in self._stream_text(litellm, target, call):
                yield events
            return
        arguments = self._arguments(target, call) | STREAMING
        with translated(litellm, target):
            response = await litellm.acompletion(**arguments)
            _own_work(response)
        source = Source(response)
        body: dict[str, Any] = {}
        try:
            with translated(litellm, target, is_answering=True):
                async for body in source.bodies():
                    said = [choice for choice in body["choices"] if says_something(choice)]
                    if said:
                        is_token = any(is_token_of(choice) for choice in said)
                        data = msgspec.json.encode(cleaned(body, call.alias, "delta"))
                        yield Events(wire=event(data), is_token=is_token)
        finally:
            await response.aclose()
        if not source.is_finished:
            raise UpstreamUnavailable(f"{target.id} broke off its answer")
        if source.counted:
            yield _usage_events(body, source.counted, call, target)

    async def _stream_text(self, litellm: Any, target: Target, call: Call) -> AsyncIterator[Events]:
        """The legacy wire: its chunks are whole texts' pieces, and the last says why it ended."""
        counted: Mapping[str, Any] | None = None
        is_finished, body = False, dict[str, Any]()
        with translated(litellm, target):
            response = await litellm.atext_completion(
                **self._plain_arguments(target, call, TEXT_PARAMETERS) | STREAMING
            )
        with translated(litellm, target, is_answering=True):
            async for chunk in response:
                body = chunk.model_dump(exclude_none=True)
                counted = body.pop("usage", None) or counted
                is_finished = is_finished or any(choice.get("finish_reason") for choice in body.get("choices", ()))
                if body.get("choices"):
                    yield Events(wire=event(msgspec.json.encode(of_text(body, call.alias))))
        if not is_finished:
            raise UpstreamUnavailable(f"{target.id} broke off its answer")
        if counted:
            yield _usage_events(body, counted, call, target, "text_completion")

    async def embed(self, target: Target, call: EmbeddingCall) -> Vectors:
        litellm = await self._load()
        arguments = self._settings(target) | self._address(target)
        arguments |= {"input": list(call.texts), "encoding_format": "float"}
        if call.extra:
            arguments["extra_body"] = {name: msgspec.json.decode(raw) for name, raw in call.extra.items()}
        if call.dimensions is not None:
            arguments["dimensions"] = call.dimensions
            # litellm knows a few models by name that take it, and refuses it for all others.
            arguments["allowed_openai_params"] = ["dimensions"]
        with translated(litellm, target):
            response = await litellm.aembedding(**arguments)
            _own_work(response)
            body = response.model_dump()
        try:
            rows = [item["embedding"] for item in sorted(body["data"], key=lambda item: item["index"])]
        except (KeyError, TypeError):
            raise UpstreamUnavailable(f"{target.id} answered with something other than vectors") from None
        if not all(isinstance(row, list) for row in rows):
            raise UpstreamUnavailable(f"{target.id} answered with something other than vectors")
        if len(rows) != len(call.texts):
            raise UpstreamUnavailable(f"{target.id} answered {len(rows)} vectors for {len(call.texts)} texts")
        return Vectors(rows=rows, usage=usage_of_mapping(body.get("usage")))

    def _arguments(self, target: Target, call: Call) -> dict[str, Any]:
        known: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, raw in call.fields.items():
            if name not in ENVELOPE:
                (known if name in PARAMETERS else unknown)[name] = msgspec.json.decode(raw)
        # The configuration's own `temperature` and the like are defaults, as at LiteLLM's proxy.
        arguments = {**self._settings(target), **known, **self._address(target)}
        # Its MCP gateway would be imported for every call with tools, fail without the package `mcp`, and let clients
        # name servers for it.
        arguments["_skip_mcp_handler"] = True
        if target.provider_model.partition("/")[0] in SPEAKS_OPENAI:
            if unknown:
                arguments["extra_body"] = {**unknown, **arguments.get("extra_body", {})}
            # litellm would refuse what its own list of models does not give a model: that is for the vendor to say.
            if len(known) > 1:  # each has messages
                arguments["allowed_openai_params"] = sorted({*known, *arguments.get("allowed_openai_params", ())})
        return arguments

    def _plain_arguments(self, target: Target, call: Call, known: frozenset[str]) -> dict[str, Any]:
        """For the endpoints whose few parameters litellm passes on as they are."""
        fields = {name: msgspec.json.decode(raw) for name, raw in call.fields.items() if name not in ENVELOPE}
        arguments = {**self._settings(target), **{name: fields[name] for name in fields.keys() & known}}
        unknown = {name: fields[name] for name in fields.keys() - known}
        return {**arguments, "extra_body": {**unknown, **arguments.get("extra_body", {})}, **self._address(target)}

    def _settings(self, target: Target) -> dict[str, Any]:
        """What the configuration gives, the client's own parameters may replace."""
        times = target.timeouts
        return {"timeout": self._httpx.Timeout(times.total_s, connect=times.connect_s), **target.params}

    def _address(self, target: Target) -> dict[str, Any]:
        arguments: dict[str, Any] = {"model": target.provider_model, "num_retries": 0, "max_retries": 0}
        if target.is_local:
            arguments["api_base"], arguments["api_key"] = self._local.address()
        return arguments

    async def _load(self) -> Any:
        if self._litellm is None:
            async with self._loading:
                if self._litellm is None:
                    began_s = time.monotonic()
                    self._litellm = await asyncio.to_thread(_import_litellm)
                    worked_for_model(time.monotonic() - began_s)
                    if gc.get_freeze_count():  # the server froze what it made at start: these million objects stay, too
                        gc.freeze()
                    self._httpx = importlib.import_module("httpx")  # loaded with litellm, whose dependency it is
                    self._is_internal_call = importlib.import_module("litellm._internal_context").is_internal_call
        # "Suppresses logging and billing": both are ours, and its own take a twelfth of a call for nobody.
        self._is_internal_call.set(True)
        return self._litellm


def _import_litellm() -> Any:
    litellm: Any = importlib.import_module("litellm")
    litellm.telemetry = False
    litellm.suppress_debug_info = True  # it would print banners to stdout, between our log lines
    litellm.callbacks = []
    litellm.user_url_validation = True  # pictures that it fetches for vendors who do not: from public addresses alone
    litellm.response_cost_calculator = _no_cost
    clients: Any = importlib.import_module("litellm.llms.openai.common_utils").BaseOpenAILLM
    bounded: Any = importlib.import_module("app.llm.transports.bounded_client")
    litellm.aclient_session = bounded.bound(clients.get_async_http_client())
    # At exit it would flush events to callbacks, of which we have none, for up to 5 s.
    worker: Any = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
    atexit.unregister(worker._flush_on_exit)
    litellm.DEFAULT_MAX_RETRIES = 0  # embeddings take `max_retries=0` for "not given", and would be sent three times
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its stack traces may show what was asked
    return litellm


def _no_cost(**_call: Any) -> None:
    """Every call is priced once, by `app.llm.prices`. litellm's own would take a fifth of its call."""


def _own_work(response: Any) -> None:
    """litellm tells how long it was busy itself, beside its HTTP client: that is not waiting for the target."""
    own_ms = response._hidden_params.get("litellm_overhead_time_ms")
    if isinstance(own_ms, float) and own_ms > 0:
        worked_for_model(own_ms / 1000)


def _usage_events(
    body: Mapping[str, Any],
    counted: Mapping[str, Any],
    call: Call,
    target: Target,
    kind: str = "chat.completion.chunk",
) -> Events:
    usage = usage_of_mapping(counted)
    if not call.include_usage or usage is None:
        return Events(wire=b"", usage=usage)
    first = {"id": body.get("id"), "created": body.get("created"), "object": kind}
    return Events(wire=event(usage_chunk(first, counted, call, target, usage)), usage=usage)
