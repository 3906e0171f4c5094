"""Who is held to which limits: all that apply must have room, and who is refused uses up nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from plugins.contract.errors import RateLimited
from plugins.contract.limits import Limit
from plugins.contract.nulls import NullSlot
from plugins.contract.ports import Meter, Slot
from plugins.security.limits.addresses import subject_of
from plugins.security.limits.caller import Caller
from plugins.security.limits.leases import MAX_ACTIVE, Leases
from plugins.security.limits.lookup import RememberedLimits
from plugins.security.limits.share import WINDOW_S, Bucket, LimitKind, Scope, Share, Slots, Tally

AGAIN_S: Final = 1.0
"""Where nobody knows when there is room again: a share of another replica's, or a call that must end."""

_WORDS: dict[LimitKind, str] = {
    "requests": "requests a minute",
    "tokens": "tokens a minute",
    "concurrency": "model calls at once",
}
_NO_SLOT: Final = NullSlot()


class Limiter:
    """The `CallLimits` port, and the rate of requests. For one event loop."""

    def __init__(self, lookup: RememberedLimits, leases: Leases, *, address_requests_per_minute: int) -> None:
        """`address_requests_per_minute` 0: addresses are not limited."""
        self._lookup = lookup
        self._leases = leases
        self.clock = leases.clock
        self._per_address = address_requests_per_minute
        kinds: tuple[LimitKind, ...] = ("requests", "tokens", "concurrency")
        scopes: tuple[Scope, ...] = ("tenant", "user", "key")
        self._tallies = {(kind, scope): Tally(kind, scope) for kind in kinds for scope in scopes}
        self._of_addresses = Tally("requests", "address")

    def observe_with(self, meter: Meter) -> None:
        """Decisions are counted here, and told when somebody reads: it costs a request nothing."""
        decisions = meter.counter(
            "rate_limit_decisions_total",
            "Whether a limit let something in: requests and tokens a minute and model calls at once (concurrency), by"
            " whose limit it is. Refused is counted for the limit that refused.",
            ("kind", "scope", "decision"),
        )

        for tally in (*self._tallies.values(), self._of_addresses):
            for decision in ("allowed", "refused"):
                decisions.add(0, tally.kind, tally.scope, decision)  # so that strangers make no new series

        async def tell() -> None:
            for tally in (*self._tallies.values(), self._of_addresses):
                decisions.add(tally.allowed, tally.kind, tally.scope, "allowed")
                decisions.add(tally.refused, tally.kind, tally.scope, "refused")
                tally.allowed = tally.refused = 0

        meter.sample(tell)

    async def caller(self, tenant_id: UUID, user_id: UUID | None, key_id: UUID | None) -> Caller | None:
        """None: without limits. Raises: RetryableError when nobody can say."""
        limits = await self._lookup.of(tenant_id)
        limited = limits.by_id
        if not limited:
            return None
        whose = (user_id if user_id in limited else None, key_id if key_id in limited else None)
        caller = limits.callers.get(whose)
        if caller is None:
            rows = [limited[one] for one in (tenant_id, *whose) if one is not None and one in limited]
            caller = limits.callers[whose] = self._caller_of(rows)
        return caller

    async def admit_request(self, caller: Caller) -> None:
        """Raises: RateLimited."""
        shares, leases = caller.requests, self._leases
        now_s = leases.clock()
        if now_s >= leases.phase_ends_s:
            leases.age(now_s)
        for share in shares:
            if share.first_ends_s <= now_s:
                share.expire(now_s)
            if share.used >= share.share:
                refusing = await leases.wait_for_room([(one, 1) for one in shares])
                now_s = leases.clock()
                if refusing is not None:
                    raise self._refusal(refusing, 1, caller, now_s)
                break
        for share in shares:
            share.take(1, now_s)
            share.tally.allowed += 1

    async def admit_address(self, address: str) -> None:
        """A request of nobody that we know. Raises: RateLimited."""
        if not self._per_address:
            return
        subject = subject_of(address) if len(self._leases.active) < MAX_ACTIVE else "others"
        share = self._leases.share(f"r:address:{subject}", self._per_address, self._of_addresses)
        await self.admit_request(Caller((share,), (), ()))

    async def admit(self, *, tenant_id: UUID | None, user_id: UUID | None, key_id: UUID | None, n_tokens: int) -> Slot:
        if tenant_id is None:
            return _NO_SLOT
        caller = await self.caller(tenant_id, user_id, key_id)
        if caller is None or not (caller.tokens or caller.slots):
            return _NO_SLOT
        leases = self._leases
        now_s = leases.clock()
        if now_s >= leases.phase_ends_s:
            leases.age(now_s)
        must_wait = False
        for share in caller.tokens:
            if share.room(now_s) < n_tokens:
                must_wait = True
            if n_tokens > share.limit:
                share.tally.refused += 1
                raise RateLimited(
                    f"this call may take {n_tokens} tokens, and the limit of this {share.scope} is {share.limit} a "
                    "minute: ask for less at once",
                    retry_after_s=WINDOW_S,
                    limits=caller.states(now_s),
                )
        for share in caller.slots:
            if share.used >= share.share:
                must_wait = True
        if must_wait:
            needs = [*((share, n_tokens) for share in caller.tokens), *((share, 1) for share in caller.slots)]
            refusing = await leases.wait_for_room(needs)
            now_s = leases.clock()
            if refusing is not None:
                raise self._refusal(refusing, dict(needs)[refusing], caller, now_s)
        for share in caller.slots:
            share.tally.allowed += 1
            share.take(1, now_s)
        taken: list[Bucket | None] = []
        for share in caller.tokens:
            share.tally.allowed += 1
            taken.append(share.take(n_tokens, now_s))
        return _Call(leases, caller, taken, n_tokens)

    def _caller_of(self, limits: Sequence[Limit]) -> Caller:
        requests: list[Share] = []
        tokens: list[Share] = []
        slots: list[Slots] = []
        for limit in limits:
            subject = f"{limit.scope}:{limit.scope_id.hex}"
            if (n := limit.requests_per_minute) is not None:
                requests.append(self._leases.share(f"r:{subject}", n, self._tallies["requests", limit.scope]))
            if (n := limit.tokens_per_minute) is not None:
                tokens.append(self._leases.share(f"t:{subject}", n, self._tallies["tokens", limit.scope]))
            if (n := limit.max_concurrency) is not None:
                made = self._leases.share(f"c:{subject}", n, self._tallies["concurrency", limit.scope])
                assert isinstance(made, Slots)
                slots.append(made)
        return Caller(tuple(requests), tuple(tokens), tuple(slots))

    def _refusal(self, share: Share, units: int, caller: Caller, now_s: float) -> RateLimited:
        share.tally.refused += 1
        room_in_s = share.room_in_s(units, now_s)
        retry_after_s = min(WINDOW_S, math.ceil(max(AGAIN_S, AGAIN_S if room_in_s is None else room_in_s)))
        return RateLimited(
            f"the limit of this {share.scope} is used up: {share.limit} {_WORDS[share.kind]}; "
            f"try again in {retry_after_s} s",
            retry_after_s=retry_after_s,
            limits=caller.states(now_s),
        )


class _Call:
    """The `Slot` port: one call that was let in."""

    __slots__ = ("_caller", "_is_closed", "_leases", "_n_tokens", "_taken")

    def __init__(self, leases: Leases, caller: Caller, taken: Sequence[Bucket | None], n_tokens: int) -> None:
        """`taken`: of the caller's shares of tokens, in order."""
        self._leases = leases
        self._caller = caller
        self._taken = taken
        self._n_tokens = n_tokens
        self._is_closed = False

    def close(self, n_tokens: int | None) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for slots in self._caller.slots:
            slots.give_back()
        if n_tokens is not None and n_tokens != self._n_tokens:
            now_s = self._leases.clock()
            for share, bucket in zip(self._caller.tokens, self._taken, strict=True):
                share.correct(bucket, n_tokens - self._n_tokens, now_s)
