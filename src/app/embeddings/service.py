"""Embeddings through the same chains as chat."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.embeddings.schemas import MAX_TEXTS, EmbeddingRequest
from app.errors import InvalidRequest
from app.llm.answers import Embedded
from app.llm.caching import NO_WISH
from app.llm.model import EmbeddingCall
from app.llm.routing import Router
from app.response_cache.vectors import CachedEmbedding
from plugins.contract.principal import Principal


class EmbeddingService:
    """Checks the request and calls the chain."""

    def __init__(self, *, router: Router, chain: CachedEmbedding) -> None:
        self._router = router
        self._chain = chain

    async def embed(
        self,
        principal: Principal,
        request: EmbeddingRequest,
        extra: Mapping[str, msgspec.Raw] | None = None,
        deadline_s: float | None = None,
    ) -> Embedded:
        """`extra`: fields for the vendor. Raises: InvalidRequest, ModelNotFound, or what the chain raises."""
        if not request.model:
            raise InvalidRequest("model is missing: GET /v1/models lists them", param="model", code="missing_field")
        plan = self._router.plan(principal, request.model, "embedding")
        call = EmbeddingCall(
            alias=request.model,
            tenant_id=principal.tenant_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            texts=_texts(request),
            kind=request.input_type,
            dimensions=request.dimensions,
            deadline_s=deadline_s,
            extra=extra or {},
        )
        return await self._chain.embed(call, plan, request.cache or NO_WISH)


def _texts(request: EmbeddingRequest) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    """Or their tokens: one list of numbers is one text."""
    given = request.input
    if isinstance(given, list) and given and all(isinstance(one, int) for one in given):
        given = [[one for one in given if isinstance(one, int)]]
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise InvalidRequest("input is missing: a text, or a list of texts", param="input", code="missing_field")
    if len(texts) > MAX_TEXTS:
        raise InvalidRequest(f"input has {len(texts)} texts, at most {MAX_TEXTS} are taken", param="input")
    tokens = tuple(tuple(text) for text in texts if isinstance(text, list))
    if len(tokens) == len(texts):
        if not all(tokens):
            raise InvalidRequest("input has an empty list of tokens", param="input")
        return tokens
    found = tuple(text for text in texts if isinstance(text, str))
    if len(found) != len(texts):
        raise InvalidRequest("input must be texts, or their tokens, not both", param="input")
    if not all(text.strip() for text in found):
        raise InvalidRequest("input has an empty text", param="input")
    return found
