"""Vectors on the wire."""

from __future__ import annotations

import array
import base64

import msgspec
import pytest

from app.embeddings.schemas import MAX_NUMBERS_ON_LOOP, EmbeddingRequest, encode_list
from app.llm.model import Usage


@pytest.mark.parametrize("n", [1, MAX_NUMBERS_ON_LOOP // 4 + 1], ids=["few", "many"])
async def test_vectors_are_written_in_order_however_many(n: int) -> None:
    """Few at once, many in a thread: the same JSON."""
    rows = [[float(i), 0.5, -1.0, 0.0] for i in range(n)]
    asked = EmbeddingRequest(model="m", input="x")
    body = msgspec.json.decode(await encode_list(asked, rows, Usage(input_tokens=4, output_tokens=0)))
    assert [item["index"] for item in body["data"]] == list(range(n))
    assert [item["embedding"] for item in body["data"]] == rows
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert (body["object"], body["model"]) == ("list", "m")


async def test_base64_is_little_endian_float32() -> None:
    """What the official client asks for, and decodes with numpy."""
    asked = EmbeddingRequest(model="m", input="x", encoding_format="base64")
    body = msgspec.json.decode(await encode_list(asked, [[1.0, -2.5]], None))
    assert base64.b64decode(body["data"][0]["embedding"]) == bytes.fromhex("0000803f000020c0")
    assert array.array("f", [1.0]).itemsize == 4
    assert body["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
