"""Completions through the same chains as chat."""

from __future__ import annotations

from app.completions.model import CompletionRequest
from app.llm.answers import Completed, Streamed
from app.llm.model import Call
from app.llm.routing import Router
from app.response_cache.service import CachedChain
from plugins.contract.principal import Principal


class CompletionService:
    """Plans the request and calls the chain. Raises: ModelNotFound, InvalidRequest, or what the chain raises."""

    def __init__(self, *, router: Router, chain: CachedChain) -> None:
        self._router = router
        self._chain = chain

    async def complete(self, principal: Principal, request: CompletionRequest) -> Completed:
        plan = self._router.plan(principal, request.model, "completion", request.wishes)
        return await self._chain.complete(_call(principal, request), plan, request.cache)

    async def stream(self, principal: Principal, request: CompletionRequest) -> Streamed:
        plan = self._router.plan(principal, request.model, "completion", request.wishes)
        return await self._chain.stream(_call(principal, request), plan, request.cache)


def _call(principal: Principal, request: CompletionRequest) -> Call:
    return Call(
        alias=request.model,
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        user_id=principal.user_id,
        fields=request.fields,
        endpoint="completions",
        stream=request.stream,
        include_usage=request.include_usage,
        deadline_s=request.deadline_s,
    )
