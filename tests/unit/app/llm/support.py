"""Targets, calls and a chain, for tests that speak to the scriptable upstream through the real litellm."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.llm.chain import Chain
from app.llm.events import payloads
from app.llm.model import Call, EmbeddingCall, Events, Plan, Target
from app.llm.prices import Price
from app.llm.transports.bridge import BridgeTransport
from plugins.contract.nulls import NullGuard, NullMeter
from plugins.contract.ports import Guard
from upstream import API_KEY, Upstream

LITELLM_WARNS = [
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_.*:DeprecationWarning"),
]
"""What litellm 1.106.2 gets told by pydantic about its own types; warnings are errors otherwise."""

PRICE = Price(input_nusd_per_mtok=150_000_000, output_nusd_per_mtok=600_000_000)


VENDORS = ("openai", "hosted_vllm")
"""One that litellm calls through OpenAI's SDK, whose chunks we read directly, and one whose chunks it renders anew."""


def target(
    upstream: Upstream | str, model: str, *, price: Price | None = PRICE, vendor: str = "openai", **params: object
) -> Target:
    url = upstream if isinstance(upstream, str) else upstream.url
    params = {"api_base": url, "api_key": API_KEY, **params}
    return Target(
        id=f"{vendor}/{model}",
        alias="chat",
        provider_model=f"{vendor}/{model}",
        transport="bridge",
        params=params,
        price=price,
    )


def plan(*targets: Target) -> Plan:
    return Plan(targets=targets)


def asking(*, include_usage: bool = False, **fields: object) -> Call:
    body = {"model": "chat", "messages": [{"role": "user", "content": "ping"}], **fields}
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    return Call(alias="chat", fields=raw, stream=bool(fields.get("stream")), include_usage=include_usage)


def embedding(*texts: str, dimensions: int | None = None) -> EmbeddingCall:
    return EmbeddingCall(alias="vectors", texts=texts, dimensions=dimensions)


def chain_of(bridge: BridgeTransport, guard: Guard | None = None) -> Chain:
    return Chain(
        transports={"chat/completions": {"bridge": bridge}},
        embedding={"bridge": bridge},
        guard=guard or NullGuard(),
        meter=NullMeter(),
    )


def json_of(events: Events) -> dict[str, Any]:
    """Of the one event that it is."""
    (data,) = payloads(events.wire)
    return msgspec.json.decode(data, type=dict[str, Any])


def text_of(chunks: list[Events]) -> str:
    """What a client would have read."""
    bodies = [msgspec.json.decode(data) for chunk in chunks for data in payloads(chunk.wire)]
    return "".join(c["delta"].get("content") or "" for body in bodies for c in body["choices"])
