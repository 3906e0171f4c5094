"""The chain behind the cache: what was answered before, to the same request, is answered again at once.

A hit is never refused for budgets or tokens a minute, and costs nothing: whoever may use the alias gets it. What may be
kept at all is `recording`'s to say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from app.llm.accounting import choices_of
from app.llm.answers import Completed, Streamed
from app.llm.caching import CachePolicy, CacheWish, agreed
from app.llm.chain import Chain
from app.llm.events import event, payloads
from app.llm.model import Call, Events, Plan, Reply, Target
from app.llm.tokens import estimated_usage
from app.response_cache.keys import canonical, fingerprints, target_of, who
from app.response_cache.recording import Recording
from app.response_cache.savings import Savings
from app.response_cache.sending import SHAPE, Kept, Sending, encoder, kept_answer
from plugins.contract.ports import Cache, Meter
from plugins.contract.principal import TenantId


class Entry(msgspec.Struct, frozen=True):
    """Where the answer to one request would be."""

    key: str
    policy: CachePolicy


class CachedChain:
    """`complete` and `stream` of a chain, with a wish. Raises: what the chain raises."""

    def __init__(self, chain: Chain, cache: Cache, *, state: str, meter: Meter) -> None:
        """`state`: `off` when there is no cache."""
        self._chain = chain
        self._cache = cache
        self._is_off = state == "off"
        self._savings = Savings(meter)

    async def complete(self, call: Call, plan: Plan, wish: CacheWish) -> Completed:
        entry = self._entry(call, plan, wish)
        if entry is None:
            return await self._chain.complete(call, plan)
        value = self._cache.peek(entry.key) if entry.policy.reads else None
        if value is None and entry.policy.reads and entry.policy.writes:
            sending = Sending(self._chain, call, plan)
            value = await sending.shared(self._cache, entry.key, entry.policy.ttl_s)
            if sending.done is not None:
                return msgspec.structs.replace(sending.done, cache="miss")
        elif value is None and entry.policy.reads:
            value = await self._cache.get(entry.key)
        if (found := self._again(value, call, plan)) is not None:
            kept, target = found
            return Completed(
                reply=Reply(body=kept.wire, usage=None),
                target=target,
                attempts=0,
                cost_nusd=0,
                cache="hit",
                saved_nusd=kept.saved_nusd,
            )
        done = await self._chain.complete(call, plan)
        if entry.policy.writes and (value := kept_answer(call, done)) is not None:
            await self._cache.set(entry.key, value, ttl_s=entry.policy.ttl_s)
        return msgspec.structs.replace(done, cache="miss")

    async def stream(self, call: Call, plan: Plan, wish: CacheWish) -> Streamed:
        """One from the cache comes as one piece."""
        entry = self._entry(call, plan, wish)
        if entry is None:
            return await self._chain.stream(call, plan)
        value = (self._cache.peek(entry.key) or await self._cache.get(entry.key)) if entry.policy.reads else None
        if (found := self._again(value, call, plan)) is not None:
            kept, target = found
            wire = kept.wire + kept.usage_wire if call.include_usage else kept.wire
            return Streamed(pieces=_at_once(wire), target=target, attempts=0, cache="hit", saved_nusd=kept.saved_nusd)
        if not entry.policy.writes:
            return msgspec.structs.replace(await self._chain.stream(call, plan), cache="miss")
        # Usage is recorded for whoever asks for it later.
        streamed = await self._chain.stream(msgspec.structs.replace(call, include_usage=True), plan)
        return msgspec.structs.replace(streamed, pieces=self._recorded(entry, call, streamed), cache="miss")

    async def _recorded(self, entry: Entry, call: Call, streamed: Streamed) -> AsyncIterator[Events]:
        """The same stream, kept once it is whole."""
        recording = Recording(call.endpoint, choices_of(call))
        async with aclosing(streamed.pieces):  # type: ignore[type-var]  # an async generator, typed as what it is used as
            async for piece in streamed.pieces:
                if recording.add(piece) or call.include_usage:
                    yield piece
        if recording.is_good:
            wire = b"".join(recording.wires)
            usage = recording.usage or await estimated_usage(call, (wire,), are_events=True)
            cost_nusd = streamed.target.cost_nusd(usage)
            usage_wire = _as_saved(recording.usage_wire, cost_nusd)
            kept = Kept(streamed.target.id, cost_nusd, wire, usage_wire)
            await self._cache.set(entry.key, encoder.encode(kept), ttl_s=entry.policy.ttl_s)

    def _entry(self, call: Call, plan: Plan, wish: CacheWish) -> Entry | None:
        """None: this request has nothing to do with the cache."""
        if self._is_off or call.tenant_id is None:
            return None
        policy = agreed(wish, plan.cache)
        if policy is None or (asked := canonical(call.fields)) is None:
            return None
        how = "stream" if call.stream else "whole"
        parts: tuple[str | bytes, ...] = (
            call.endpoint,
            how,
            call.alias,
            who(policy.scope, call),
            *fingerprints(plan),
            *asked,
        )
        return Entry(self._cache.create_key(TenantId(call.tenant_id), SHAPE, parts), policy)

    def _again(self, value: bytes | None, call: Call, plan: Plan) -> tuple[Kept, Target] | None:
        """What is kept, if it can be given again: then it is entered and counted."""
        if value is None:
            return None
        try:
            kept = _decoder.decode(value)
        except msgspec.DecodeError:
            return None
        target = target_of(plan, kept.target)
        if target is None:
            return None
        self._chain.cached(call, kept.target)
        self._savings.hit(target, kept.saved_nusd)
        return kept, target


_decoder = msgspec.msgpack.Decoder(Kept)


async def _at_once(wire: bytes) -> AsyncIterator[Events]:
    yield Events(wire=wire)


def _as_saved(usage_wire: bytes, cost_nusd: int | None) -> bytes:
    """The usage chunk as it is given again: it costs nothing, and saves what it cost."""
    shown: list[bytes] = []
    for data in payloads(usage_wire):
        body = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        body["x_wattos"] = msgspec.Raw(msgspec.json.encode({"cost_nusd": 0, "saved_nusd": cost_nusd}))
        shown.append(event(msgspec.json.encode(body)))
    return b"".join(shown)
