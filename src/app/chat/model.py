"""What a chat request asks for, once read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from app.grounding import Grounding
from app.llm.answers import CacheState
from app.llm.caching import CacheWish
from app.llm.routing import NO_WISHES, Wishes

Degraded = Literal["extractive", "retrieval"]
"""Quotes stood in for the model; documents were searched by words, or not at all."""


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
    cache: CacheWish
    """`NEVER` where no answer may be given again, whatever the request asks."""
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
    cache: CacheState
    cost_nusd: int | None
    saved_nusd: int | None = None
    grounding: Grounding | None = None
    degraded: Degraded | None = None
