"""What a chat request asks for, once read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from app.grounding import Grounding
from app.llm.routing import NO_WISHES, Wishes

CacheMode = Literal["off", "read", "write", "readwrite"]


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request's own wish: responses are cached only when it asks. `ttl_s` in seconds."""

    mode: CacheMode = "off"
    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0
    """A model's answer of yesterday is no answer of today: a day at most."""

    @property
    def reads(self) -> bool:
        return self.mode in {"read", "readwrite"}

    @property
    def writes(self) -> bool:
        return self.mode in {"write", "readwrite"}


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `fields` is the client's body without our extensions, values untouched."""

    model: str
    fields: Mapping[str, msgspec.Raw]
    question: str
    """The text of the last user message: what is looked up in documents."""
    stream: bool
    include_usage: bool
    store_ids: tuple[UUID, ...]
    max_results: int
    score_threshold: float
    cache: CachePolicy
    needs_model: bool
    """Tools or a response format: quotes alone would not do."""
    may_continue: bool | None = None
    """Whether another target may go on where one breaks off; None: as the deployment has it."""
    wishes: Wishes = NO_WISHES
    deadline_s: float | None = None
    """Of the event loop's clock: the caller's own."""


class ChatOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer came about; what the `x-wattos-*` headers say."""

    target: str
    attempts: int
    cache: str
    cost_nusd: int | None
    grounding: Grounding | None = None
