"""The port through which each call is accounted for: announced before it is sent, entered when it is over."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from app.llm.model import Call, EmbeddingCall, Plan, Usage

UNSAID_OUTPUT_TOKENS = 1024
"""Of an answer whose length the caller does not bound: more than nine in ten answers of chats."""

MAX_TOKENS = 10**9
"""No model writes so many: more would only make sums overflow."""

BYTES_PER_TOKEN = 3
"""Of JSON text: fewer than a token has, so that the estimate is rather too high."""


class Expected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that is about to be sent: whose it is, and what it may use and cost, as far as that can be said."""

    tenant_id: UUID | None
    key_id: UUID | None
    user_id: UUID | None
    model: str
    endpoint: str
    input_tokens: int
    output_tokens: int
    estimate_nusd: int | None
    """At the price of the dearest target. None: no price is known."""
    unpriced: str | None
    """A target that may be asked and whose price nobody knows."""


class Happened(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How it ended. `outcome`: `ok`, `cached`, `cancelled`, else an error's code. Times in milliseconds."""

    outcome: str
    target: str | None
    attempts: int
    is_under_way: bool = False
    """A call was being answered, or had been, when this ended: it may cost what nobody counted. Not in a pause between
    calls, nor after the last one failed."""
    usage: Usage | None = None
    cost_nusd: int | None = None
    first_token_ms: float | None = None


class Account(Protocol):
    """Of one call. Closed once; later closings are ignored."""

    def close(self, happened: Happened) -> None: ...


class Accounting(Protocol):
    """Every call of a model goes through here, whatever its endpoint."""

    async def open(self, expected: Expected) -> Account:
        """Waits only for what lets the call in. Raises: what refuses it; then nothing is used up."""
        ...

    def cached(self, expected: Expected, target: str) -> None:
        """An answer that this target once gave was given again: it costs nothing, and is never refused."""
        ...


class NoAccount:
    def close(self, happened: Happened) -> None:
        pass


class NoAccounting:
    """Nothing is accounted for."""

    _account = NoAccount()

    async def open(self, expected: Expected) -> Account:
        return self._account

    def cached(self, expected: Expected, target: str) -> None:
        pass


def expected(call: Call | EmbeddingCall, plan: Plan) -> Expected:
    """With the price of the dearest target that may be asked; without targets it costs nothing."""
    n_input, n_output = _tokens(call)
    estimate_nusd: int | None = None if plan.targets else 0
    unpriced = None
    for target in (*plan.targets, *plan.on_context, *plan.on_policy):
        if target.price is None:
            unpriced = target.id
        elif (cost_nusd := target.price.most_nusd(n_input, n_output)) > (estimate_nusd or -1):
            estimate_nusd = cost_nusd
    return Expected(
        tenant_id=call.tenant_id,
        key_id=call.key_id,
        user_id=call.user_id,
        model=call.alias,
        endpoint=call.endpoint if isinstance(call, Call) else "embeddings",
        input_tokens=n_input,
        output_tokens=n_output,
        estimate_nusd=estimate_nusd,
        unpriced=unpriced,
    )


def _tokens(call: Call | EmbeddingCall) -> tuple[int, int]:
    """Going in, and coming out at most where the caller says how much."""
    if isinstance(call, EmbeddingCall):
        return sum(map(_tokens_of_text, call.texts)), 0
    n_input = sum(map(len, call.fields.values())) // BYTES_PER_TOKEN
    if call.endpoint == "moderations":
        return n_input, 0
    n_answers = max(_number(call, "n"), _number(call, "best_of"), 1)
    if call.endpoint == "completions":
        n_prompts, n_ids = _prompts(call.fields.get("prompt"))
        n_answers, n_input = n_answers * n_prompts, n_input + n_ids
    said = max(_number(call, "max_completion_tokens"), _number(call, "max_tokens"))
    return n_input, (said or UNSAID_OUTPUT_TOKENS) * n_answers


def choices_of(call: Call) -> int:
    """How many a whole answer has: `n` to each prompt."""
    n_prompts = _prompts(call.fields.get("prompt"))[0] if call.endpoint == "completions" else 1
    return max(_number(call, "n"), 1) * n_prompts


def _tokens_of_text(text: str | tuple[int, ...]) -> int:
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN + 1 if isinstance(text, str) else len(text)


def _prompts(raw: bytes | msgspec.Raw | None) -> tuple[int, int]:
    """How many there are, each answered by itself; and how many tokens are given as their numbers."""
    if raw is None or not bytes(raw).startswith(b"["):
        return 1, 0
    try:
        prompts = msgspec.json.decode(raw, type=list[str | int | list[int]])
    except msgspec.DecodeError:
        return 1, 0  # which the target will refuse
    n_ids = sum(len(one) if isinstance(one, list) else isinstance(one, int) for one in prompts)
    return max(1, sum(not isinstance(one, int) for one in prompts)), n_ids


def _number(call: Call, name: str) -> int:
    """0 where it is not given, null, or what the target will refuse."""
    raw = call.fields.get(name)
    if raw is None:
        return 0
    try:
        return min(max(0, int(bytes(raw))), MAX_TOKENS)
    except ValueError:
        return 0
