"""A stream whose first token is there, passed on to its end; and what happens when it breaks off.

Either the next target continues, where the caller asked for that (`x_wattos_seam`), or the relay raises: text that has
been sent is never sent again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from app.errors import DeadlineExceeded, UpstreamRejected
from app.llm.accounting import Account, NoAccount
from app.llm.attempts import Attempts
from app.llm.events import event, payloads
from app.llm.instruments import outcome_of
from app.llm.model import Call, Events, Plan, Target, Usage
from app.llm.places import NO_PLACE, Place
from app.llm.stream import Patience, close
from plugins.contract.errors import RetryableError, WattosError

SEAM = "x_wattos_seam"
"""On the first chunk of the target that continues: `{"target": …}`."""

COUNTED_WITHIN_S = 1.0
"""Counting takes milliseconds; a reader waits for the rest of the answer meanwhile."""

MAX_KEPT_BYTES = 128 * 1024
"""Of what was relayed: kept to count it when the target does not, and to continue it; 600 chunks. What is beyond is
counted in proportion."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A stream up to its first token. `others`: targets that were not asked."""

    first: Sequence[Events]
    rest: AsyncIterator[Events]
    target: Target
    first_token_ms: float
    sent_s: float
    """Monotonic."""
    others: tuple[Target, ...] = ()
    attempts: Attempts = msgspec.field(default_factory=Attempts)
    began_s: float = 0.0
    since_s: float = 0.0
    """Monotonic: when it was open."""
    account: Account = msgspec.field(default_factory=NoAccount)
    place: Place = NO_PLACE


class Ended(Protocol):
    """Hears of each target's part of a stream once it is over. Must not wait: the client may be gone.

    `broken`: what its target ended it by. Returns: what is still counted of it, if something is.
    """

    def __call__(
        self,
        call: Call,
        opened: Opened,
        outcome: str,
        usage: Usage | None,
        seen: Seen,
        broken: WattosError | None = None,
    ) -> asyncio.Task[None] | None: ...


class Seen:
    """What the client has been sent, up to a bound."""

    __slots__ = ("n_bytes", "wires")

    def __init__(self) -> None:
        self.n_bytes = 0
        self.wires: list[bytes] = []

    def add(self, wire: bytes) -> None:
        self.n_bytes += len(wire)
        if self.n_bytes <= MAX_KEPT_BYTES:
            self.wires.append(wire)

    @property
    def is_whole(self) -> bool:
        return self.n_bytes <= MAX_KEPT_BYTES


Reopen = Callable[[Call, Plan, Attempts], Awaitable[Opened]]


async def relayed(call: Call, opened: Opened, *, reopen: Reopen, ended: Ended) -> AsyncIterator[Events]:
    """The pieces for the client. Raises: what ended the stream early, with what was tried."""
    text = ""
    while True:
        patience = Patience(opened.rest, opened.target, call.deadline_s)
        held, seen, usage, outcome = deque(opened.first), Seen(), None, "ok"
        broken: WattosError | None = None
        try:
            while (piece := held.popleft() if held else await patience.next()) is not None:
                usage = piece.usage or usage
                if piece.wire:
                    seen.add(piece.wire)
                    yield piece
        except WattosError as exc:
            outcome, broken = exc.code, exc
        except BaseException as exc:
            outcome = outcome_of(exc)
            raise
        finally:
            patience.stop()
            counting = ended(call, opened, outcome, usage, seen, broken)
            await close(opened.rest)
        if broken is None:
            return
        opened.attempts.failed(opened.target, broken, opened.first_token_ms)
        more = _text_of(seen) if _may_continue(call, opened, broken) else None
        if more is None:
            raise opened.attempts.raised(broken)
        text += more
        if counting is not None:  # what the first part had reserved is there for the next
            await asyncio.wait([counting], timeout=COUNTED_WITHIN_S)
        again = await reopen(_continuing(call, text), Plan(targets=opened.others), opened.attempts)
        try:
            opened = _marked(again)
        except BaseException as exc:
            ended(call, again, outcome_of(exc), None, Seen())
            await close(again.rest)
            raise


def _may_continue(call: Call, opened: Opened, broken: WattosError) -> bool:
    wanted = opened.target.may_continue if call.may_continue is None else call.may_continue
    return (
        wanted
        and call.endpoint == "chat/completions"
        and bool(opened.others)
        and isinstance(broken, RetryableError)
        and not isinstance(broken, DeadlineExceeded | UpstreamRejected)
    )


def _text_of(seen: Seen) -> str | None:
    """The one answer's text so far; None when there is more than text, which no other model could take up."""
    if not seen.is_whole:
        return None
    text: list[str] = []
    for wire in seen.wires:
        for data in payloads(wire):
            for choice in msgspec.json.decode(data).get("choices") or ():
                delta: dict[str, Any] = choice.get("delta") or {}
                others = [name for name in delta if name not in {"role", "content"} and delta[name]]
                if choice.get("index") or choice.get("finish_reason") or others:
                    return None
                text.append(delta.get("content") or "")
    return "".join(text)


def _continuing(call: Call, text: str) -> Call:
    """The same call with the text so far as the last message: models that take a prefix go on behind it."""
    messages = msgspec.json.decode(call.fields["messages"], type=list[msgspec.Raw])
    prefix = msgspec.Raw(msgspec.json.encode({"role": "assistant", "content": text}))
    fields = {**call.fields, "messages": msgspec.Raw(msgspec.json.encode([*messages, prefix]))}
    return msgspec.structs.replace(call, fields=fields)


def _marked(opened: Opened) -> Opened:
    """Without the chunks that only begin an answer, and with the seam on the first that says something."""
    first: list[Events] = []
    for piece in opened.first:
        shown: list[bytes] = []
        for data in payloads(piece.wire):
            body = msgspec.json.decode(data, type=dict[str, Any])
            choices: list[dict[str, Any]] = body.get("choices") or []
            deltas: list[dict[str, Any]] = [choice.get("delta") or {} for choice in choices]
            if not (shown or first) and not any(map(_says_something, choices)):
                continue
            if not (shown or first):
                body[SEAM] = {"target": opened.target.id}
                for delta in deltas:
                    delta.pop("role", None)
            shown.append(event(msgspec.json.encode(body)))
        if shown or piece.usage:
            first.append(msgspec.structs.replace(piece, wire=b"".join(shown)))
    return msgspec.structs.replace(opened, first=first)


def _says_something(choice: dict[str, Any]) -> bool:
    """More than that an answer begins."""
    delta: dict[str, Any] = choice.get("delta") or {}
    return bool(choice.get("finish_reason")) or any(value for name, value in delta.items() if name != "role")
