"""One exchange with the others: what we hold and would like goes, what we got comes back. The script is in `script`."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from plugins.contract.errors import RetryableError
from plugins.contract.ports import SharedState
from plugins.security.limits.script import (
    EPOCH_KEY,
    EXCHANGE,
    HOLDERS_KEY,
    N_ANSWER,
    N_HEAD,
    PREFIX,
    SLOTS_LIFE_S,
    STALE,
    WINDOW_LIFE_S,
)
from plugins.security.limits.share import Share

TIMEOUT_S: Final = 0.1
"""A script takes under a millisecond; who waits for it waits 150 ms in all."""

VALID_S: Final = 0.25
"""How long a message may be under way. A Valkey that was frozen reads what is long out of date, and must not act on
it: we gave up waiting after `TIMEOUT_S`, and may hold something else by now."""

CHUNK: Final = 200
"""Limits in one call: some 0.5 ms, in which Valkey does nothing else."""


class News(NamedTuple):
    """What an exchange tells beside the shares themselves."""

    n_replicas: int
    is_known_to_all: bool
    """Whether all others have heard that there are so many."""
    epoch: int
    is_lending: bool
    """Not while some replica may hold shares that Valkey does not know of."""


class Exchange:
    """Speaks for one replica. One call at a time."""

    def __init__(
        self,
        shared: SharedState,
        *,
        clock: Callable[[], float] = time.monotonic,
        server_clock: Callable[[], int] | None = None,
        holder: str | None = None,
    ) -> None:
        """`server_clock`: epoch milliseconds that Valkey shall take for its own; None: its own. `holder`: our name."""
        self._shared = shared
        self._clock = clock
        self._server_clock = server_clock
        self.holder = holder or secrets.token_hex(8)
        self._sequence = 0
        self._server_ahead_ms: float | None = None
        """The server's clock minus ours, at most."""
        self.n_replicas = 0
        """As last heard; 0: never."""
        self._n_before = 0
        self._n_needed = 0
        self._has_held = False
        """Something, perhaps, before this epoch. Who has not is none of those who are waited for."""
        self._epoch = 0
        self._was_lending = False

    async def call(self, shares: Sequence[Share], *, whole_epoch: int = 0, is_farewell: bool = False) -> News:
        """Tell of these shares, at most `CHUNK`, and take what is granted. `Share.told` says what.

        `whole_epoch`: with these, everything has been told in that epoch. Raises: RetryableError, and then nothing is
        changed here; what Valkey believes may be.
        """
        sent = [share.told for share in shares]
        reply = await self._ask(shares, whole_epoch, is_farewell)
        if reply[0] == STALE:  # the first one of all, or the server's clock was set
            reply = await self._ask(shares, whole_epoch, is_farewell)
            if reply[0] == STALE:
                raise RetryableError("Valkey does not take what it is told: its clock is set back and forth")
        _, _, n, is_known, signed_epoch, self._n_needed = reply[:N_HEAD]
        epoch = abs(signed_epoch)
        if epoch != self._epoch:
            self._n_before, self._has_held = self._n_next, self._has_held or self._was_lending
            self._epoch, self._was_lending = epoch, False
        self._was_lending |= signed_epoch > 0
        self.n_replicas = n
        now_s = self._clock()
        for i, share in enumerate(shares):
            granted, pool, idle, unmet = reply[N_HEAD + i * N_ANSWER : N_HEAD + (i + 1) * N_ANSWER]
            if granted > sent[i][0]:
                share.share = granted
            elif pool < 0:  # more is lent than there is: a limit that was lowered, a replica that was thought dead
                share.share = max(0, share.share + pool)
            share.pool, share.idle_elsewhere, share.unmet_elsewhere = max(0, pool), idle, unmet
            share.answered_at_s, share.epoch = now_s, epoch
        return News(n, bool(is_known), epoch, signed_epoch > 0)

    @property
    def _n_next(self) -> int:
        """How many may hold something, once this epoch is over. Where nothing was lent, those who held it before."""
        return self.n_replicas if self._was_lending else max(self._n_before, self._n_needed)

    async def _ask(self, shares: Sequence[Share], whole_epoch: int, is_farewell: bool) -> list[int]:
        self._sequence += 1
        sent_at_ms = self._clock() * 1000
        valid_until_ms = 0.0 if self._server_ahead_ms is None else sent_at_ms + self._server_ahead_ms + VALID_S * 1000
        arguments: list[str | int] = [
            "server" if self._server_clock is None else self._server_clock(),
            self.holder,
            self._sequence,
            int(valid_until_ms),
            self._epoch,
            self.n_replicas,
            self._n_before,
            self._n_next,
            whole_epoch if self._has_held else 0,
            int(is_farewell),
        ]
        for share in shares:
            life_s = SLOTS_LIFE_S if share.kind == "concurrency" else WINDOW_LIFE_S
            arguments += (share.limit, *share.told, round(life_s * 1000))
        keys = [EPOCH_KEY, HOLDERS_KEY, *(f"{PREFIX}:{share.key}" for share in shares)]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = cast("list[int]", await self._shared.run(EXCHANGE, keys, arguments))
        except TimeoutError:
            raise RetryableError("Valkey does not answer in time") from None
        if len(reply) < N_HEAD:
            raise RetryableError("Valkey answers something else than it was asked")
        self._server_ahead_ms = reply[1] - sent_at_ms
        return reply
