"""The port through which each call is accounted for: announced before it is sent, entered when it is over."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from app.llm.model import Call, EmbeddingCall, Plan, Usage

UNSAID_OUTPUT_TOKENS = 1024
"""Of an answer whose length the caller does not bound: more than nine in ten answers of chats."""

BYTES_PER_TOKEN = 3
"""Of JSON text: fewer than a token has, so that the estimate is rather too high."""


class Expected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that is about to be sent: whose it is, and what it may cost."""

    tenant_id: UUID | None
    key_id: UUID | None
    user_id: UUID | None
    model: str
    endpoint: str
    estimate_nusd: int | None


class Happened(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How it ended. `outcome`: `ok`, `cached`, `cancelled`, else an error's code. Times in milliseconds."""

    outcome: str
    target: str | None
    attempts: int
    usage: Usage | None = None
    cost_nusd: int | None = None
    first_token_ms: float | None = None


class Account(Protocol):
    """Of one call. Closed once; later closings are ignored."""

    def close(self, happened: Happened) -> None: ...


class Accounting(Protocol):
    """Neither waits nor raises."""

    def open(self, expected: Expected) -> Account: ...


class NoAccount:
    def close(self, happened: Happened) -> None:
        pass


class NoAccounting:
    """Nothing is accounted for."""

    _account = NoAccount()

    def open(self, expected: Expected) -> Account:
        return self._account


def expected(call: Call | EmbeddingCall, plan: Plan) -> Expected:
    """With the price of the dearest target of the plan; without targets it costs nothing."""
    return Expected(
        tenant_id=call.tenant_id,
        key_id=call.key_id,
        user_id=call.user_id,
        model=call.alias,
        endpoint=call.endpoint if isinstance(call, Call) else "embeddings",
        estimate_nusd=_estimate_nusd(call, plan) if plan.targets else 0,
    )


def _estimate_nusd(call: Call | EmbeddingCall, plan: Plan) -> int | None:
    if isinstance(call, Call):
        n_bytes, n_texts = sum(map(len, call.fields.values())), 0
        n_output = _max_output_tokens(call) if call.endpoint != "moderations" else 0
    else:
        n_bytes, n_texts, n_output = sum(map(len, call.texts)), len(call.texts), 0
    usage = Usage(input_tokens=n_bytes // BYTES_PER_TOKEN + n_texts, output_tokens=n_output)
    return max((cost for target in plan.targets if (cost := target.cost_nusd(usage)) is not None), default=None)


def _max_output_tokens(call: Call) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        if (raw := call.fields.get(name)) is not None:
            try:
                return max(0, int(bytes(raw)))
            except ValueError:  # null, or what the target will refuse
                continue
    return UNSAID_OUTPUT_TOKENS
