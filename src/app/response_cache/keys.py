"""When two requests are the same: for the same caller, of the same targets, with the same parameters that matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from app.llm.caching import CacheScope
from app.llm.model import Call, EmbeddingCall, Plan, Target

MAX_REQUEST_BYTES = 512 * 1024
"""Of what is put into canonical form: 3 ms on the event loop, and 100,000 tokens. A longer request is just asked."""

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


def canonical(fields: Mapping[str, msgspec.Raw]) -> bytes | None:
    """The same bytes for the same JSON, however it is spaced, ordered and escaped. Numbers stay as they are written.

    A field that is null is as good as none. None: too long, or not to be read.
    """
    kept = {name: raw for name, raw in fields.items() if name not in IRRELEVANT and not _is_null(raw)}
    if sum(map(len, kept.values())) > MAX_REQUEST_BYTES:
        return None
    try:
        return _encoder.encode(_decoder.decode(msgspec.json.encode(kept)))
    except (msgspec.DecodeError, RecursionError, ArithmeticError):  # the last: a number that no Decimal is
        return None


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


def _is_null(raw: msgspec.Raw) -> bool:
    return len(raw) == 4 and bytes(raw) == b"null"
