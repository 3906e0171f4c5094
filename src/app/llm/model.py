"""The words of this room: a client names an *alias*, which has a chain of *targets*; a *transport* calls one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec

from app.grounding import Grounding
from app.llm.caching import CacheWish
from app.llm.prices import Price

TransportName = Literal["direct", "anthropic", "bridge", "extractive", "embedder"]
"""`direct` speaks OpenAI's wire, `anthropic` Anthropic's; `bridge` is litellm; the other two are on this machine."""

Mode = Literal["chat", "completion", "embedding", "moderation"]
Endpoint = Literal["chat/completions", "completions", "moderations", "messages"]
"""What of a vendor's API is called, by its path below the base URL."""

TenantKeyUse = Literal["never", "allowed", "required"]
"""Whether a target is called with the tenant's own key of its vendor, where the tenant has one."""

PriceSource = Literal["price_file", "models_config", "tenant", "built_in"]
"""litellm's price file, MODELS_CONFIG, the tenant's own price; models of this machine cost nothing."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one call. `cached_tokens` and `cache_write_tokens` are part of the input, `reasoning_tokens` of the
    output."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Read from the vendor's prompt cache."""
    cache_write_tokens: int = 0
    """Written to the vendor's prompt cache, where that has a price of its own."""
    reasoning_tokens: int = 0
    is_estimate: bool = False
    """Counted by us, because the target did not."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long a target may take before it is at fault and another is tried. In seconds."""

    connect_s: float = 5.0
    """The SDK of OpenAI has the same: a host that can be reached at all answers within a second."""
    first_token_s: float = 60.0
    """Reasoning models think for tens of seconds before the first token; nothing useful takes a minute of silence."""
    silence_s: float = 60.0
    """Between two chunks of a stream: as long as before the first, for models that think again in between."""
    total_s: float = 600.0
    """For a whole answer, or vectors. OpenAI's own clients give up after 600 s."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one vendor, with its own name, address, key, price and time-outs."""

    id: str
    """Safe to show; the same after a restart."""
    alias: str
    provider_model: str
    """In litellm's notation: `openai/gpt-4o-mini`."""
    transport: TransportName
    mode: Mode = "chat"
    params: Mapping[str, Any] = {}
    """What the configuration says beyond the model: `api_base`, `api_key`, `temperature` …; holds secrets."""
    timeouts: Timeouts = Timeouts()
    price: Price | None = None
    price_source: PriceSource | None = None
    """Who says so."""
    label: str = ""
    """Of many targets that one wildcard makes, whose names clients choose: what they share. Empty: `id`."""
    weight: float = 1.0
    """Share of calls among the deployments of its alias."""
    order: int = 0
    """Deployments with a lower number are asked first."""
    may_continue: bool = False
    """Whether another target may go on where this one breaks off, if the caller does not say."""
    may_hedge: bool = False
    """Whether the next target is asked too when this one is slow."""
    max_calls: int | None = None
    """At once, streams until their end; 0: any number; None: as LLM_MAX_CALLS_PER_TARGET says."""
    is_local: bool = False
    """The model server on this machine: address and key are asked for at each call."""
    tenant_key: TenantKeyUse = "never"
    """Whether a tenant's own key of the vendor takes the place of the operator's."""
    own_key_id: str = ""
    """Of the tenant's own key that it is called with."""
    is_own_address: bool = False
    """Its address is the tenant's choice, so only public ones are connected to."""
    cache: CacheWish | None = None
    """Whether answers of its alias are given again."""
    configured: str = ""
    """A digest of what decides its answers: what another configuration gave is not given again."""

    def __repr__(self) -> str:
        return f"Target({self.id!r}, alias={self.alias!r})"  # params hold keys

    @property
    def fingerprint(self) -> str:
        """The same only for one that answers alike."""
        return self.configured or self.id

    @property
    def known_as(self) -> str:
        """In metrics, breakers and traffic: one of as many as the configuration names."""
        return self.label or self.id

    def cost_nusd(self, usage: Usage | None) -> int | None:
        """None when usage or price is unknown: no cost is better than a wrong one."""
        if usage is None or self.price is None:
            return None
        return self.price.cost_nusd(usage)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask for one request, in order; and whom to ask instead when one of them cannot take this request."""

    targets: tuple[Target, ...]
    on_context: tuple[Target, ...] = ()
    """After a target said that the request is too long for it."""
    on_policy: tuple[Target, ...] = ()
    """After a target refused the content."""
    cache: CacheWish | None = None
    """What the alias is configured for."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request for an answer. `fields` is the client's JSON object without our extensions."""

    alias: str
    """The model that the client asked for: answers carry this name, whichever target gave them."""
    fields: Mapping[str, msgspec.Raw]
    tenant_id: UUID | None = None
    """Whose call it is: with its own keys of vendors, if it has some."""
    key_id: UUID | None = None
    user_id: UUID | None = None
    endpoint: Endpoint = "chat/completions"
    """Whose wire `fields` and the answer are in."""
    stream: bool = False
    deadline_s: float | None = None
    """Of the event loop's clock: the caller's own."""
    may_continue: bool | None = None
    """Whether another target may go on where one breaks off; None: as the target has it."""
    include_usage: bool = False
    """Whether the client asked for the usage chunk; we ask for it always, and hide it from those who did not."""
    grounding: Grounding | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer: the JSON for the client, and what it used."""

    body: bytes
    usage: Usage | None


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Whole server-sent events, one or more, as they go to the client: `app.llm.events` makes and reads them.

    `usage` is set where one of them carries it; without `wire` it is for us alone. `[DONE]` is never among them.
    """

    wire: bytes
    usage: Usage | None = None
    is_token: bool = True
    """False: they only announce the answer (its role), so another target may still give it."""


class EmbeddingCall(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed, or their tokens. `kind`: e5 models embed questions and passages differently."""

    alias: str
    texts: tuple[str, ...] | tuple[tuple[int, ...], ...]
    tenant_id: UUID | None = None
    key_id: UUID | None = None
    user_id: UUID | None = None
    kind: Literal["query", "passage"] = "passage"
    dimensions: int | None = None
    deadline_s: float | None = None
    """Of the event loop's clock: the caller's own."""
    extra: Mapping[str, msgspec.Raw] = {}
    """What else the client sent, unread."""


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """float[len(texts), dim], in the order of the texts."""

    rows: Sequence[Sequence[float]]
    usage: Usage | None


class Transport(Protocol):
    """Calls one target. Raises: the errors of `app.errors` that say whether another target may do better.

    `stream` yields at least one piece or raises; closing it early closes the connection to the target.
    """

    async def complete(self, target: Target, call: Call) -> Reply: ...

    def stream(self, target: Target, call: Call) -> AsyncIterator[Events]: ...


class EmbeddingTransport(Protocol):
    """Embeds at one target. Raises: as `Transport`."""

    async def embed(self, target: Target, call: EmbeddingCall) -> Vectors: ...


class LocalEndpoint(Protocol):
    """Where the model server on this machine answers now. Raises: RetryableError while it does not."""

    def address(self) -> tuple[str, str]:
        """Base URL and API key."""
        ...
