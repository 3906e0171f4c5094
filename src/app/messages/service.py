"""Messages through the same chains as chat."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import msgspec

from app.errors import UpstreamError, UpstreamMisconfigured
from app.llm.answers import Completed, Streamed
from app.llm.chain import Chain
from app.llm.model import Call, Plan, Target
from app.llm.routing import Router
from app.llm.stream import before
from app.messages.counting import input_tokens_of
from app.messages.model import MessagesRequest
from app.response_cache.service import CachedChain
from plugins.contract.principal import Principal

logger = logging.getLogger("llm")

COUNT_TIMEOUT_S = 10.0
"""Counting takes a vendor less than a second; agents count before each turn and wait for it."""


class Counting(Protocol):
    """A vendor that counts tokens before a call. Raises: as a `Transport`."""

    async def count_tokens(self, target: Target, call: Call) -> int: ...


class MessagesService:
    """Plans the request and calls the chain. Raises: ModelNotFound, InvalidRequest, or what the chain raises."""

    def __init__(self, *, router: Router, chain: Chain, answers: CachedChain, counting: Counting | None = None) -> None:
        """`counting`: for targets that speak Anthropic's own wire."""
        self._router = router
        self._chain = chain
        self._answers = answers
        self._counting = counting

    async def complete(self, principal: Principal, request: MessagesRequest) -> Completed:
        return await self._answers.complete(_call(principal, request), self._plan(principal, request), request.cache)

    async def stream(self, principal: Principal, request: MessagesRequest) -> Streamed:
        return await self._answers.stream(_call(principal, request), self._plan(principal, request), request.cache)

    async def count(self, principal: Principal, request: MessagesRequest) -> int:
        """Input tokens, by the vendor that would be asked first, if it counts; else estimated.

        Raises: what the vendor says to a request that is wrong. While it is away, an estimate is better than nothing.
        """
        with before(request.deadline_s):
            return await self._counted(principal, request)

    async def _counted(self, principal: Principal, request: MessagesRequest) -> int:
        plan = await self._chain.with_own_keys(self._plan(principal, request), principal.tenant_id)
        target, call = plan.targets[0], _call(principal, request)
        if self._counting is not None and target.transport == "anthropic":
            try:
                async with asyncio.timeout(COUNT_TIMEOUT_S):
                    return await self._counting.count_tokens(target, call)
            except (UpstreamError, UpstreamMisconfigured, TimeoutError) as exc:
                logger.warning("target %s counted no tokens: %s", target.id, type(exc).__name__)
        return await input_tokens_of(request.fields)

    def _plan(self, principal: Principal, request: MessagesRequest) -> Plan:
        """Quotes stand in for no model here: this wire has no documents of ours."""
        plan = self._router.plan(principal, request.model, "chat", request.wishes)
        if len(plan.targets) == 1 or all(target.transport != "extractive" for target in plan.targets):
            return plan
        writing = tuple(target for target in plan.targets if target.transport != "extractive")
        return msgspec.structs.replace(plan, targets=writing or plan.targets)


def _call(principal: Principal, request: MessagesRequest) -> Call:
    return Call(
        alias=request.model,
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        user_id=principal.user_id,
        fields=request.fields,
        endpoint="messages",
        stream=request.stream,
        include_usage=True,
        deadline_s=request.deadline_s,
    )
