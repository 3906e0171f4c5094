"""The wire of `/v1/embeddings`."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from app.http.body import decode_body, decode_object
from app.llm.caching import CacheWish
from app.llm.model import Usage

MAX_TEXTS = 2048
"""OpenAI's own limit for one call."""

MAX_DIMENSIONS = 65_536
"""16 times the most of any vendor's models."""

MAX_NUMBERS_ON_LOOP = 50_000
"""Written as JSON in 3 ms; the vectors of 2,048 texts would take 50 ms (measured)."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's request. `input_type` is ours: e5 models embed questions (`query`) and passages differently."""

    model: str = ""
    input: str | list[str | int | list[int]] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    input_type: Literal["query", "passage"] = "passage"
    cache: CacheWish | None = None


_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "input_type", "cache"})


def read_embedding_request(body: bytes) -> tuple[EmbeddingRequest, Mapping[str, msgspec.Raw]]:
    """And what else it holds, unread: for the vendor. Raises: InvalidRequest naming the field."""
    asked = decode_body(body, EmbeddingRequest)
    return asked, {name: raw for name, raw in decode_object(body).items() if name not in _KNOWN}


Text = Annotated[str, msgspec.Meta(min_length=1)]
Tokens = Annotated[list[int], msgspec.Meta(min_length=1)]


class EmbeddingCreate(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's request: a text, texts, the tokens of one, or of several; not mixed. `input_type` is ours: e5 models
    embed questions (`query`) and passages differently. So is `cache`."""

    # Told in the OpenAPI document only: what is missing is refused by the service, with a better word.
    model: Text
    input: Text | Annotated[list[Text | int | Tokens], msgspec.Meta(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    input_type: Literal["query", "passage"] = "passage"
    cache: CacheWish | None = None


EXAMPLES = {
    "passages": {"model": "wattos-embed", "input": ["The warranty is two years."]},
    "query": {"model": "wattos-embed", "input": "How long is the warranty?", "input_type": "query"},
}


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector: numbers, or little-endian float32 in base64."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, in the order of the input."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


def encoded(row: Sequence[float], how: Literal["float", "base64"]) -> list[float] | str:
    """The official client asks for base64 by default."""
    if how == "float":
        return list(row)
    packed = array.array("f", row)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()


async def encode_list(asked: EmbeddingRequest, rows: Sequence[Sequence[float]], usage: Usage | None) -> bytes:
    """The JSON of an `EmbeddingList`. Many vectors are written in a thread, so that streams beside them go on."""

    def encode() -> bytes:
        n_tokens = usage.input_tokens if usage else 0
        data = [Embedding(index=i, embedding=encoded(row, asked.encoding_format)) for i, row in enumerate(rows)]
        counted = EmbeddingUsage(prompt_tokens=n_tokens, total_tokens=n_tokens)
        return msgspec.json.encode(EmbeddingList(data=data, model=asked.model, usage=counted))

    is_small = len(rows) * len(rows[0]) <= MAX_NUMBERS_ON_LOOP
    return encode() if is_small else await asyncio.to_thread(encode)
