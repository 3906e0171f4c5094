"""Equal requests for whole answers at the same time: the cache has one sent, of all replicas, and the others wait.

Who sends is billed by the call itself, and hears of its failure; another's failure, or what may not be kept, is nobody
else's: they ask by themselves then.
"""

from __future__ import annotations

import asyncio

import msgspec

from app.llm.accounting import choices_of
from app.llm.answers import Completed
from app.llm.chain import Chain
from app.llm.model import Call, Plan
from app.response_cache.recording import may_be_kept
from plugins.contract.ports import Cache
from plugins.contract.work import waited_for_model

WAITED_S = 11.0
"""For another's answer: nine in ten are there by then, and one that hangs would hold up all others. A second longer
than a replica waits for another, so that then one of its own goes first."""

A_LOOK_S = 0.05
"""Into Valkey, which is our work. What takes longer is a wait for another replica, and none of ours."""

SHAPE = "answers-v2"
"""Of `Kept` and of what makes a key: whoever changes either counts on, so that no release reads another's."""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer: a JSON body, or whole events. `usage_wire`: the event for those who ask for usage."""

    target: str
    saved_nusd: int | None
    wire: bytes
    usage_wire: bytes = b""


encoder = msgspec.msgpack.Encoder()


def kept_answer(call: Call, done: Completed) -> bytes | None:
    """None: it may not be given again."""
    if not may_be_kept(call.endpoint, done.reply.body, choices_of(call)):
        return None
    return encoder.encode(Kept(done.target.id, done.cost_nusd, done.reply.body))


class _NotShared(Exception):
    """To all who wait: there is nothing for them."""


class Sending:
    """One request's part: it is sent if it is its turn. `done`: what came of that."""

    __slots__ = ("_began_s", "_call", "_chain", "_has_left", "_is_sent", "_patience", "_plan", "done")

    def __init__(self, chain: Chain, call: Call, plan: Plan) -> None:
        self._chain = chain
        self._call = call
        self._plan = plan
        self._is_sent = self._has_left = False
        self.done: Completed | None = None

    async def shared(self, cache: Cache, key: str, ttl_s: float) -> bytes | None:
        """What is kept, or comes meanwhile. None: nothing for us within our time. Raises: what our own call raised.

        When its client leaves, a call that others wait for goes on: it is billed to who sent it, as it was sent.
        """
        clock = asyncio.get_running_loop().time
        self._began_s = clock()
        until_s = self._began_s + WAITED_S
        if self._call.deadline_s is not None:  # past it, the chain says what happens
            until_s = min(until_s, self._call.deadline_s)
        self._patience = asyncio.timeout_at(until_s)
        try:
            async with self._patience:
                return await cache.get_or_set(key, self._sent, ttl_s=ttl_s)
        except Exception:
            if self._is_sent and self.done is None:
                raise
            if not self._is_sent:
                waited_for_model(clock() - self._began_s)  # another's, in vain
            return None
        finally:
            self._has_left = True

    async def _sent(self) -> bytes:
        """In a task of the cache's."""
        if self._has_left or self._patience.expired():  # while it was another replica's turn
            raise _NotShared
        self._is_sent = True
        self._patience.reschedule(None)
        waited_s = asyncio.get_running_loop().time() - self._began_s
        if waited_s > A_LOOK_S:
            waited_for_model(waited_s)
        self.done = await self._chain.complete(self._call, self._plan)
        value = kept_answer(self._call, self.done)
        if value is None:
            raise _NotShared
        return value
