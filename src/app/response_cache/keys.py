"""When two requests are the same: for the same caller, of the same targets, with the same parameters that matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from app.llm.caching import CacheScope
from app.llm.model import Call, EmbeddingCall, Plan, Target

MAX_REQUEST_BYTES = 512 * 1024
"""Of what is hashed, 0.4 ms on the event loop, and 100,000 tokens. A longer request is just asked."""

AS_SENT_BYTES = 8 * 1024
"""A longer field goes into the key as it was sent: canonical form takes as long again as its hash (measured), and two
clients that write the same long text in two ways are two entries, never one."""

IRRELEVANT = frozenset(
    {
        *("model", "stream", "stream_options", "user", "metadata", "store"),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    }
)
"""Fields of which the answer does not depend; `model` and whether it streams stand in the key by themselves.
https://platform.openai.com/docs/api-reference/chat/create"""

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number")
_raw_encoder = msgspec.json.Encoder()


def canonical(fields: Mapping[str, msgspec.Raw]) -> tuple[str | bytes, ...] | None:
    """Parts of a key, the same for the same JSON, however it is spaced, ordered and escaped. Numbers stay as written.

    First the short fields, as one object; then each long one, its name and what was sent. Which of the two a field is
    its length says, and a name is text where the rest is bytes: so no two requests have the same parts. A field that is
    null is as good as none. None: too long, or not to be read.
    """
    short: dict[str, msgspec.Raw] = {}
    long: list[str] = []
    n_bytes = 0
    for name, raw in fields.items():
        if name in IRRELEVANT:
            continue
        n_bytes += (length := len(raw))
        if length > AS_SENT_BYTES:
            long.append(name)
        elif length != 4 or bytes(raw) != b"null":
            short[name] = raw
    if n_bytes > MAX_REQUEST_BYTES:
        return None
    try:
        parts: tuple[str | bytes, ...] = (_encoder.encode(_decoder.decode(_raw_encoder.encode(short))),)
    except (msgspec.DecodeError, RecursionError, ArithmeticError):  # the last: a number that no Decimal is
        return None
    for name in sorted(long):
        parts += (name, bytes(fields[name]))
    return parts


def who(scope: CacheScope, call: Call | EmbeddingCall) -> str:
    """Whom of the tenant an answer is for. A key without a user stands for itself."""
    if scope == "tenant":
        return "tenant"
    return f"user {call.user_id}" if call.user_id else f"key {call.key_id}"


def fingerprints(plan: Plan) -> Sequence[str]:
    """Of all targets that may answer, in whatever order they are asked now."""
    targets = (*plan.targets, *plan.on_context, *plan.on_policy)
    return [targets[0].fingerprint] if len(targets) == 1 else sorted({target.fingerprint for target in targets})


def target_of(plan: Plan, target_id: str) -> Target | None:
    """The one that once answered."""
    targets: Iterable[Target] = (*plan.targets, *plan.on_context, *plan.on_policy)
    return next((target for target in targets if target.id == target_id), None)
