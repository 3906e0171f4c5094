"""Moderations through the same chains as chat."""

from __future__ import annotations

from app.errors import ModelNotFound
from app.llm.answers import Completed
from app.llm.chain import Chain
from app.llm.model import Call
from app.llm.routing import Router
from app.moderations.schemas import ModerationRequest
from plugins.contract.principal import Principal


class ModerationService:
    """Plans the request and calls the chain. Raises: ModelNotFound, InvalidRequest, or what the chain raises."""

    def __init__(self, *, router: Router, chain: Chain) -> None:
        self._router = router
        self._chain = chain

    async def moderate(
        self, principal: Principal, request: ModerationRequest, deadline_s: float | None = None
    ) -> Completed:
        alias = request.model or self._usual(principal)
        plan = self._router.plan(principal, alias, "moderation")
        call = Call(
            alias=alias,
            tenant_id=principal.tenant_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            fields=request.fields,
            endpoint="moderations",
            deadline_s=deadline_s,
        )
        return await self._chain.complete(call, plan)

    def _usual(self, principal: Principal) -> str:
        catalog = self._router.catalog
        for alias in catalog.aliases():
            if principal.may_use(alias) and catalog.mode(alias) == "moderation":
                return alias
        raise ModelNotFound("no moderation model is configured that this key may use: see MODELS_CONFIG")
