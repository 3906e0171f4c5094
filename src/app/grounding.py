"""The words that knowledge and chat share: a passage that was found, a citation of it, an answer made of citations.

Offsets (`start`, `end`) are Unicode code points in the stored text of the file, end exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from plugins.contract.principal import TenantId

RetrievalMode = Literal["vector", "text", "none"]
"""How the passages were found. `none`: nothing could be searched, so the answer stands without documents."""


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a stored document. `text == stored_text[start:end]`.

    `score`: cosine similarity, −1 to 1; where it was found by words, the share of them, 0 to 1.
    """

    file_id: str
    filename: str
    text: str
    start: int
    heading: str = ""
    score: float = 0.0


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """An exact quote of a passage: `quote == stored_text[start:end]`.

    `index`: where its marker `[number]` begins in the answer, in code points.
    """

    number: int
    index: int
    file_id: str
    filename: str
    quote: str
    start: int
    end: int
    score: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the documents say, in quotes. `found` is False when nothing in them supports an answer."""

    found: bool
    text: str
    citations: tuple[Citation, ...] = ()
    language: Literal["de", "en"] = "en"


class Retrieved(msgspec.Struct, frozen=True):
    """Passages, best first, and how they were found."""

    passages: tuple[Passage, ...]
    mode: RetrievalMode


class Grounding(msgspec.Struct, frozen=True):
    """A question over documents, with what was found for it."""

    question: str
    retrieved: Retrieved


class Retriever(Protocol):
    """Finds passages in a tenant's own vector stores.

    Raises: NotFound for a store that is not there, or not the tenant's. Mode `none` while that cannot be known.
    """

    async def retrieve(
        self,
        tenant_id: TenantId,
        store_ids: Sequence[UUID],
        question: str,
        *,
        max_results: int,
        score_threshold: float = 0.0,
    ) -> Retrieved: ...


class Answerer(Protocol):
    """Turns passages into cited answers: by itself, or by telling a language model how and checking what it wrote."""

    async def answer(self, question: str, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> Answer:
        """The best exact quotes, or `found=False`."""
        ...

    def instructions(self, passages: Sequence[Passage], mode: RetrievalMode = "vector") -> str:
        """The system prompt that gives a language model the numbered passages, or says why there are none."""
        ...

    def cite(self, text: str, passages: Sequence[Passage]) -> Sequence[Citation]:
        """The citations of a text that a language model wrote with markers `[1]`, in order of the markers."""
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors of `dimensions` floats, in order. Raises: RetryableError while it is away."""

    @property
    def model(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> Sequence[Sequence[float]]: ...
