"""Vectors by what was embedded: of each text alone, so that of a list only what is new is sent.

For questions, not for corpora: of a long list every text would push out an answer that may be asked for again.
"""

from __future__ import annotations

import array
import asyncio
import sys
from collections.abc import Sequence
from typing import Literal

import msgspec

from app.llm.answers import Embedded
from app.llm.caching import CachePolicy, CacheWish, agreed
from app.llm.chain import Chain
from app.llm.model import EmbeddingCall, Plan, Vectors
from app.response_cache.keys import canonical, fingerprints, target_of, who
from app.response_cache.savings import Savings
from plugins.contract.ports import Cache, Meter
from plugins.contract.principal import TenantId

SHAPE = "vectors-v2"
"""Of `KeptVector` and of what makes a key."""

MAX_TEXTS = 32
"""Of one request: each is a look-up. Questions come one by one, passages that are ingested by the hundred."""

Row = Sequence[float]


class KeptVector(msgspec.Struct, frozen=True, array_like=True):
    """One text's, little-endian: `f` where float32 says every number of it exactly, else `d`."""

    target: str
    saved_nusd: int | None
    kind: Literal["f", "d"]
    numbers: bytes

    @property
    def row(self) -> Row:
        row = array.array(self.kind, self.numbers)
        if sys.byteorder == "big":
            row.byteswap()
        return row.tolist()


def kept_vector(target: str, saved_nusd: int | None, row: Row) -> bytes:
    kind: Literal["f", "d"] = "f"
    numbers = array.array("f", row)
    if numbers.tolist() != list(row):
        kind, numbers = "d", array.array("d", row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return _encoder.encode(KeptVector(target, saved_nusd, kind, numbers.tobytes()))


def read_vector(value: bytes | None) -> KeptVector | None:
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError:
        return None


_decoder = msgspec.msgpack.Decoder(KeptVector)
_encoder = msgspec.msgpack.Encoder()


class CachedEmbedding:
    """`embed` of a chain, with a wish. Raises: what the chain raises."""

    def __init__(self, chain: Chain, cache: Cache, *, state: str, meter: Meter) -> None:
        """`state`: `off` when there is no cache."""
        self._chain = chain
        self._cache = cache
        self._is_off = state == "off"
        self._savings = Savings(meter)

    async def embed(self, call: EmbeddingCall, plan: Plan, wish: CacheWish) -> Embedded:
        """The usage is that of the texts that were sent."""
        policy = agreed(wish, plan.cache)
        keys = self._keys(call, plan, policy) if policy is not None else ()
        if policy is None or not keys:
            return await self._chain.embed(call, plan)
        kept = await self._kept(keys) if policy.reads else [None] * len(keys)
        if (hit := self._hit(call, plan, kept)) is not None:
            return hit
        if len({one.target for one in kept if one is not None}) > 1:
            kept = [None] * len(keys)  # of two models: none of them can stand beside the others
        new = [n for n, one in enumerate(kept) if one is None]
        done = await self._chain.embed(_of(call, new), plan)
        if any(one is not None and one.target != done.target.id for one in kept):
            # Another target answers now than did before: vectors of two models are not to be compared.
            new = list(range(len(keys)))
            done = await self._chain.embed(call, plan)
        if policy.writes:
            await self._keep([keys[n] for n in new], _of(call, new), done, policy)
        fresh = dict(zip(new, done.vectors.rows, strict=True))
        rows = [fresh[n] if one is None or n in fresh else one.row for n, one in enumerate(kept)]
        vectors = Vectors(rows=rows, usage=done.vectors.usage)
        return msgspec.structs.replace(done, vectors=vectors, cache="miss")

    def _keys(self, call: EmbeddingCall, plan: Plan, policy: CachePolicy) -> Sequence[str]:
        if self._is_off or call.tenant_id is None or len(call.texts) > MAX_TEXTS:
            return ()
        if (extra := canonical(call.extra)) is None:
            return ()
        who_asks, tenant_id = who(policy.scope, call), TenantId(call.tenant_id)
        alike: tuple[str | bytes, ...] = (call.alias, who_asks, call.kind, str(call.dimensions), *fingerprints(plan))
        parts = [text if isinstance(text, str) else msgspec.json.encode(text) for text in call.texts]
        return [self._cache.create_key(tenant_id, SHAPE, (*alike, *extra, part)) for part in parts]

    async def _kept(self, keys: Sequence[str]) -> Sequence[KeptVector | None]:
        """All that are not at hand are asked for at once."""
        values = {key: self._cache.peek(key) for key in keys}
        if missing := [key for key, value in values.items() if value is None]:
            values |= zip(missing, await asyncio.gather(*map(self._cache.get, missing)), strict=True)
        return [read_vector(values[key]) for key in keys]

    def _hit(self, call: EmbeddingCall, plan: Plan, kept: Sequence[KeptVector | None]) -> Embedded | None:
        """All of them there, and of one target."""
        found = [one for one in kept if one is not None]
        target = target_of(plan, found[0].target) if found else None
        if target is None or len(found) < len(kept) or any(one.target != target.id for one in found):
            return None
        self._chain.cached(call, target.id)
        saved = [one.saved_nusd for one in found if one.saved_nusd is not None]
        saved_nusd = sum(saved) if len(saved) == len(found) else None
        self._savings.hit(target, saved_nusd)
        vectors = Vectors(rows=[one.row for one in found], usage=None)
        return Embedded(vectors=vectors, target=target, attempts=0, cost_nusd=0, cache="hit", saved_nusd=saved_nusd)

    async def _keep(self, keys: Sequence[str], sent: EmbeddingCall, done: Embedded, policy: CachePolicy) -> None:
        """Each with its part of the cost, by its length."""
        lengths = [len(text) for text in sent.texts]
        costs = [None if done.cost_nusd is None else done.cost_nusd * n // sum(lengths) for n in lengths]
        values = [
            kept_vector(done.target.id, cost_nusd, row) for cost_nusd, row in zip(costs, done.vectors.rows, strict=True)
        ]
        pairs = zip(keys, values, strict=True)
        await asyncio.gather(*(self._cache.set(key, value, ttl_s=policy.ttl_s) for key, value in pairs))


def _of(call: EmbeddingCall, which: Sequence[int]) -> EmbeddingCall:
    """The same call with some of its texts."""
    if len(which) == len(call.texts):
        return call
    return msgspec.structs.replace(call, texts=tuple(call.texts[n] for n in which))
