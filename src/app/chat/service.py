"""One chat request, one direction: (documents) → cache → chain of targets → cache.

Knows no HTTP and no vendor. Retrieval and answering are ports that the factory binds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from app.chat.grounded import EXTRACTIVE, CitedReply, with_passages
from app.chat.model import ChatOutcome, ChatRequest, Degraded
from app.database.errors import DatabaseUnavailable
from app.grounding import Answerer, Grounding, Retriever
from app.llm.answers import Completed, Streamed
from app.llm.model import Call, Events, Plan, Target
from app.llm.routing import Router
from app.llm.stream import before
from app.response_cache.service import CachedChain
from plugins.contract.errors import PermissionDenied
from plugins.contract.principal import Principal, TenantId


class ChatService:
    """Answers chat requests, whole (`complete`) or as they come (`stream`)."""

    def __init__(
        self,
        *,
        router: Router,
        chain: CachedChain,
        retriever: Retriever,
        answerer: Answerer,
    ) -> None:
        self._router = router
        self._chain = chain
        self._retriever = retriever
        self._answerer = answerer

    async def complete(
        self, principal: Principal, tenant_id: TenantId, request: ChatRequest
    ) -> tuple[bytes, ChatOutcome]:
        """The body of a `chat.completion` and how it came about."""
        plan = self._router.plan(principal, request.model, "chat", request.wishes)
        _require_reading(principal, request)
        call, plan = await self._prepare(principal, tenant_id, request, plan)
        completed = await self._chain.complete(call, plan, request.cache)
        outcome = _outcome(call, completed, completed.cost_nusd)
        body = completed.reply.body
        if call.grounding is not None:
            body = CitedReply(self._answerer, call.grounding).whole(body, _extension(outcome))
        return body, outcome

    async def stream(
        self, principal: Principal, tenant_id: TenantId, request: ChatRequest
    ) -> tuple[AsyncIterator[Events], ChatOutcome]:
        """The chunks as they come, once the first of them is there, and how they came about."""
        plan = self._router.plan(principal, request.model, "chat", request.wishes)
        _require_reading(principal, request)
        call, plan = await self._prepare(principal, tenant_id, request, plan)
        streamed = await self._chain.stream(call, plan, request.cache)
        outcome = _outcome(call, streamed, 0 if streamed.cache == "hit" else None)
        chunks = streamed.pieces
        if call.grounding is not None:
            chunks = CitedReply(self._answerer, call.grounding).chunks(chunks, _extension(outcome))
        return chunks, outcome

    async def _prepare(
        self, principal: Principal, tenant_id: TenantId, request: ChatRequest, plan: Plan
    ) -> tuple[Call, Plan]:
        """The call as targets get it. Over documents: with passages found, and quotes as the chain's last link."""
        call = _call(principal, tenant_id, request)
        if not request.store_ids:
            return call, _that_write(plan)
        with before(request.deadline_s):
            retrieved = await self._retriever.retrieve(
                tenant_id,
                request.store_ids,
                request.question,
                max_results=request.max_results,
                score_threshold=request.score_threshold,
            )
        grounding = Grounding(request.question, retrieved)
        instructions = self._answerer.instructions(retrieved.passages, retrieved.mode)
        fields = with_passages(request.fields, instructions)
        call = msgspec.structs.replace(call, fields=fields, grounding=grounding)
        if retrieved.mode == "none" and all(target.transport == "extractive" for target in plan.targets):
            raise DatabaseUnavailable("the documents cannot be searched at the moment: try again")
        if request.needs_model or retrieved.mode == "none":
            return call, _that_write(plan)
        targets = plan.targets
        quotes = tuple(t for t in self._router.catalog.chain(EXTRACTIVE) if t not in targets)
        # With nothing found there is nothing to write about: the quoting target says so, in the question's language.
        found = targets + quotes if retrieved.passages else quotes or targets
        return call, msgspec.structs.replace(plan, targets=found)


def _call(principal: Principal, tenant_id: TenantId, request: ChatRequest) -> Call:
    return Call(
        alias=request.model,
        tenant_id=tenant_id,
        key_id=principal.key_id,
        user_id=principal.user_id,
        fields=request.fields,
        stream=request.stream,
        include_usage=request.include_usage,
        deadline_s=request.deadline_s,
        may_continue=request.may_continue,
    )


def _outcome(call: Call, answered: Completed | Streamed, cost_nusd: int | None) -> ChatOutcome:
    return ChatOutcome(
        target=answered.target.id,
        attempts=answered.attempts,
        cache=answered.cache,
        cost_nusd=cost_nusd,
        saved_nusd=answered.saved_nusd,
        grounding=call.grounding,
        degraded=_degraded(call, answered.target),
    )


def _require_reading(principal: Principal, request: ChatRequest) -> None:
    """Whoever asks over documents reads them. Raises: PermissionDenied."""
    if request.store_ids and not principal.may("documents:read"):
        raise PermissionDenied("this credential may not do this: the permission documents:read is needed")


def _that_write(plan: Plan) -> Plan:
    """Quotes stand in for no model without documents, nor for tools: as a chain's last link they would hide why."""
    if len(plan.targets) == 1 or all(target.transport != "extractive" for target in plan.targets):
        return plan
    writing = tuple(target for target in plan.targets if target.transport != "extractive")
    return msgspec.structs.replace(plan, targets=writing or plan.targets)


def _extension(outcome: ChatOutcome) -> dict[str, object]:
    """`x_wattos` of an answer over documents: how they were searched, and what is less than usual."""
    retrieved = outcome.grounding.retrieved if outcome.grounding else None
    return {"retrieval": retrieved.mode if retrieved else "none", "degraded": outcome.degraded}


def _degraded(call: Call, target: Target) -> Degraded | None:
    """Quotes that stood in for the model, which was asked only if there were passages; else a search without vectors,
    or none.
    """
    if call.grounding is None:
        return None
    retrieved = call.grounding.retrieved
    if target.id == EXTRACTIVE != call.alias and retrieved.passages:
        return "extractive"
    return None if retrieved.mode == "vector" else "retrieval"
