"""The embedder on this machine as a target."""

from __future__ import annotations

from app.errors import InvalidRequest
from app.grounding import Embedder
from app.llm.model import EmbeddingCall, Target, Usage, Vectors


class EmbedderTransport:
    """`wattos-embed`. Tokens are not billed, so they are not counted: usage is zero."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def embed(self, target: Target, call: EmbeddingCall) -> Vectors:
        if call.dimensions not in {None, self._embedder.dimensions}:
            raise InvalidRequest(f"{call.alias} has {self._embedder.dimensions} dimensions", param="dimensions")
        rows = await self._embedder.embed(call.texts, call.kind)
        return Vectors(rows=rows, usage=Usage(input_tokens=0, output_tokens=0))
