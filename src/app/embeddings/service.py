"""Embeddings through the same chains as chat."""

from __future__ import annotations

from app.embeddings.schemas import MAX_TEXTS, EmbeddingRequest
from app.errors import InvalidRequest
from app.llm.chain import Chain, Embedded
from app.llm.model import EmbeddingCall
from app.llm.routing import Router
from plugins.contract.principal import Principal


class EmbeddingService:
    """Checks the request and calls the chain."""

    def __init__(self, *, router: Router, chain: Chain) -> None:
        self._router = router
        self._chain = chain

    async def embed(self, principal: Principal, request: EmbeddingRequest) -> Embedded:
        """Raises: InvalidRequest, ModelNotFound, or what the chain raises."""
        if not request.model:
            raise InvalidRequest("model is missing: GET /v1/models lists them", param="model", code="missing_field")
        plan = self._router.plan(principal, request.model, "embedding")
        call = EmbeddingCall(
            alias=request.model, texts=_texts(request), kind=request.input_type, dimensions=request.dimensions
        )
        return await self._chain.embed(call, plan)


def _texts(request: EmbeddingRequest) -> tuple[str, ...]:
    texts = [request.input] if isinstance(request.input, str) else request.input
    if not texts:
        raise InvalidRequest("input is missing: a text, or a list of texts", param="input", code="missing_field")
    if len(texts) > MAX_TEXTS:
        raise InvalidRequest(f"input has {len(texts)} texts, at most {MAX_TEXTS} are taken", param="input")
    found = tuple(text for text in texts if isinstance(text, str))
    if len(found) != len(texts):
        raise InvalidRequest("input must be text: tokens mean something else to each model", param="input")
    if not all(text.strip() for text in found):
        raise InvalidRequest("input has an empty text", param="input")
    return found
