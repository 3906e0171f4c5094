"""Tokens counted here, where a target does not say how many there were: an estimate, and marked as one.

With the vocabulary that litellm's package brings (cl100k_base), right for some models of OpenAI and near for others.
It is loaded in a thread on first need (0.1 s, 42 MB); counting is done in threads, too.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import msgspec

from app.llm.events import payloads
from app.llm.model import Call, Usage

VOCABULARY = ("litellm_core_utils", "tokenizers", "9b5ad71b2ce5302211f9c61530b329a4922fc6a4")
"""In litellm's package: the name is the SHA-1 of the address that tiktoken would fetch it from."""

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
"""How cl100k_base cuts a text before it counts. https://github.com/openai/tiktoken"""

PER_MESSAGE_TOKENS = 4
"""What OpenAI's chat format adds to each message. https://cookbook.openai.com (how to count tokens with tiktoken)"""

MAX_COUNTED_CHARS = 100_000
"""Counted in 5 ms to 50 ms."""

BYTES_PER_TOKEN = 4
"""English text's average: without the vocabulary nothing better is known."""

TEXT_FIELDS = ("messages", "prompt", "system", "tools", "functions", "input", "response_format")
_SAYING = frozenset({"content", "text", "reasoning_content", "reasoning", "arguments", "name", "refusal", "thinking"})
"""Keys whose texts a model wrote, or read."""


async def count(text: str) -> int:
    """Off the event loop: 100 kB take 4 ms and more."""
    return await asyncio.get_running_loop().run_in_executor(_counting, _count, text)


async def estimated_usage(call: Call, answer: Sequence[bytes], *, are_events: bool = False, n_bytes: int = 0) -> Usage:
    """Of a call, and of what was answered: JSON bodies, or pieces of whole events; `n_bytes` in all, if more."""
    n_kept = sum(map(len, answer))
    loop = asyncio.get_running_loop()
    usage = await loop.run_in_executor(_counting, _estimate, call, answer, are_events)
    if n_bytes <= n_kept or not n_kept:
        return usage
    return msgspec.structs.replace(usage, output_tokens=round(usage.output_tokens * n_bytes / n_kept))


def _estimate(call: Call, answer: Sequence[bytes], are_events: bool) -> Usage:
    asked: list[str] = []
    n_messages = 0
    for name in TEXT_FIELDS:
        if (raw := call.fields.get(name)) is not None:
            value = _decoded(bytes(raw))
            if name == "messages" and isinstance(value, list):
                n_messages = len(cast("list[object]", value))
            asked.extend(_texts(value, is_saying=True))
    bodies: Iterable[bytes] = (data for wire in answer for data in payloads(wire)) if are_events else answer
    said = [text for body in bodies for text in _answered(_decoded(body))]
    return Usage(
        input_tokens=_count("\n".join(asked)) + PER_MESSAGE_TOKENS * n_messages,
        output_tokens=_count("".join(said)),
        is_estimate=True,
    )


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _answered(body: Any) -> Iterator[str]:
    """What the model wrote: in OpenAI's `choices`, or in Anthropic's `content`, `delta` and `content_block`."""
    if isinstance(body, dict):
        for name in ("choices", "content", "delta", "content_block"):
            yield from _texts(cast("dict[str, Any]", body).get(name), is_saying=False)


def _texts(value: Any, *, is_saying: bool) -> Iterator[str]:
    """The texts below keys that hold texts; with `is_saying` those at the top, too. Pictures count nothing."""
    if isinstance(value, str):
        if is_saying:
            yield value
    elif isinstance(value, dict):
        for name, item in cast("dict[str, Any]", value).items():
            yield from _texts(item, is_saying=name in _SAYING or (is_saying and name == "description"))
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item, is_saying=is_saying)


_loading = threading.Lock()
_counting = ThreadPoolExecutor(max_workers=1, thread_name_prefix="count-tokens")
"""One thread: counting for clients that have left must not take those that others wait for."""


def _count(text: str) -> int:
    """In proportion beyond a bound: the vocabulary's own time grows with the square of a word's length."""
    if len(text) > MAX_COUNTED_CHARS:
        return round(_count(text[:MAX_COUNTED_CHARS]) * len(text) / MAX_COUNTED_CHARS)
    with _loading:  # two threads at once would load it twice
        encoding = _encoding()
    if encoding is None:
        return -(-len(text.encode()) // BYTES_PER_TOKEN)
    return len(encoding.encode_ordinary(text))


@functools.cache
def _encoding() -> Any:
    spec = find_spec("litellm")  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]).joinpath(*VOCABULARY)
    if not path.is_file():
        return None
    import tiktoken  # memory that most processes never need
    from tiktoken.load import load_tiktoken_bpe

    return tiktoken.Encoding(
        "cl100k_base", pat_str=PATTERN, mergeable_ranks=load_tiktoken_bpe(str(path)), special_tokens={}
    )
