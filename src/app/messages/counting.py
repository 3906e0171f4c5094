"""Input tokens of a request on Anthropic's wire, estimated here: for targets that do not count before a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from app.errors import InvalidRequest
from app.llm.tokens import PER_MESSAGE_TOKENS, count

PER_PICTURE_TOKENS = 1600
"""The most that one costs at Anthropic. https://docs.anthropic.com/en/docs/build-with-claude/vision"""

UNREAD = frozenset({"type", "role", "id", "tool_use_id", "signature", "cache_control", "media_type", "data", "url"})
"""Keys of content blocks whose texts no model reads as words."""


async def input_tokens_of(fields: Mapping[str, msgspec.Raw]) -> int:
    """Of `system`, `messages` and `tools`: texts as they are, arguments and schemas as JSON.

    Raises: InvalidRequest for what is nested too deeply.
    """
    try:
        messages: list[Any] = msgspec.json.decode(fields["messages"])
        system: object = msgspec.json.decode(fields.get("system", b"null"))
        texts = list(_texts([system, messages]))
        n_pictures = _n_pictures(messages)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply", param="messages", code="invalid_json") from None
    if bytes(fields.get("tools", b"null")) != b"null":
        texts.append(bytes(fields["tools"]).decode())
    n_words = await count("\n".join(texts))
    return n_words + PER_MESSAGE_TOKENS * len(messages) + PER_PICTURE_TOKENS * n_pictures


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)
    elif isinstance(value, dict):
        block = cast("dict[str, object]", value)
        if block.get("type") == "tool_use":
            yield str(block.get("name", ""))
            yield msgspec.json.encode(block.get("input")).decode()
            return
        # A text document's words stand where a picture's bytes do.
        is_text = block.get("type") == "text"
        for name, item in block.items():
            if name not in UNREAD or (name == "data" and is_text):
                yield from _texts(item)


def _n_pictures(value: object) -> int:
    if isinstance(value, list):
        return sum(map(_n_pictures, cast("list[object]", value)))
    if isinstance(value, dict):
        block = cast("dict[str, object]", value)
        return 1 if block.get("type") == "image" else sum(map(_n_pictures, block.values()))
    return 0
