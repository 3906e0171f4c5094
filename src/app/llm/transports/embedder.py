"""The embedder on this machine as a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from app.errors import InvalidRequest
from app.llm.model import EmbeddingCall, Target, Usage, Vectors


class Counted(Protocol):
    """Unit rows in the order of the texts, and the tokens of each text."""

    @property
    def rows(self) -> Sequence[Sequence[float]]: ...

    @property
    def n_tokens(self) -> Sequence[int]: ...


class CountingEmbedder(Protocol):
    """What is needed of the embedder. Raises: RetryableError while it is away, ContextTooLong."""

    @property
    def dimensions(self) -> int: ...

    async def embed_counted(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> Counted: ...


class EmbedderTransport:
    """`wattos-embed`."""

    def __init__(self, embedder: CountingEmbedder) -> None:
        self._embedder = embedder

    async def embed(self, target: Target, call: EmbeddingCall) -> Vectors:
        texts = tuple(text for text in call.texts if isinstance(text, str))
        if len(texts) != len(call.texts):
            raise InvalidRequest(f"{call.alias} embeds text: tokens mean something else to each model", param="input")
        if call.dimensions not in {None, self._embedder.dimensions}:
            raise InvalidRequest(f"{call.alias} has {self._embedder.dimensions} dimensions", param="dimensions")
        embedded = await self._embedder.embed_counted(texts, call.kind)
        return Vectors(rows=embedded.rows, usage=Usage(input_tokens=sum(embedded.n_tokens), output_tokens=0))
