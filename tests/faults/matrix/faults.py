"""The faults: how each begins and ends. An end returns once what was broken answers by itself again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from faults.matrix.world import World
from upstream import answers, fails, hangs
from upstream_server import Exchange, Script

Broken = Literal["valkey", "postgres", "first"]
"""What must be used again afterwards."""

Act = Callable[[World], Awaitable[None]]

SLOW_S = 0.2
"""A reply of Valkey. Issue 7."""

RETRY_AFTER_S = "3"
"""Issue 7."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """As `make faults ARGS=…` chooses it, and the table has it."""
    breaks: tuple[Broken, ...]
    begin: Act
    end: Act
    through_proxy: bool = False


def _in_thread(act: Callable[[World], object]) -> Act:
    async def run(world: World) -> None:
        await asyncio.to_thread(act, world)

    return run


async def trickles(exchange: Exchange) -> None:
    """The head at once, then one byte a second."""
    await exchange.head(
        200, {"content-type": "text/event-stream" if exchange.received.body.get("stream") else "application/json"}
    )
    for byte in b'data: {"id": "chatcmpl-trickle", "object": "chat.completion.chunk"}':
        await exchange.send(bytes([byte]))
        await asyncio.sleep(1.0)


def half_of(script: Script) -> Script:
    """Half of the time this, else an answer; by chance, but the same in each run."""
    chance, otherwise = random.Random(7), answers()

    async def either(exchange: Exchange) -> None:
        await (script if chance.random() < 0.5 else otherwise)(exchange)

    return either


def _first(name: str, script: Script) -> Fault:
    return Fault(
        name=f"first target {name}",
        breaks=("first",),
        begin=_in_thread(lambda world: world.first.on("first", script)),
        end=_in_thread(lambda world: world.first.on("first", answers())),
    )


async def _slow(world: World) -> None:
    world.proxy.delay_s = SLOW_S


async def _fast(world: World) -> None:
    world.proxy.delay_s = 0.0


def _fill(world: World) -> None:
    """What is there stays, and nothing can be written (`noeviction`)."""
    world.valkey.command("CONFIG", "SET", "maxmemory", "1")


def _empty(world: World) -> None:
    world.valkey.command("CONFIG", "SET", "maxmemory", "0")


VALKEY = (
    Fault(
        name="Valkey killed",
        breaks=("valkey",),
        begin=_in_thread(lambda world: world.valkey.kill()),
        end=_in_thread(lambda world: world.valkey.restart()),
    ),
    Fault(
        name="Valkey frozen",
        breaks=("valkey",),
        begin=_in_thread(lambda world: world.valkey.freeze()),
        end=_in_thread(lambda world: world.valkey.thaw()),
    ),
    Fault(name="Valkey slow", breaks=("valkey",), begin=_slow, end=_fast, through_proxy=True),
    Fault(name="Valkey full", breaks=("valkey",), begin=_in_thread(_fill), end=_in_thread(_empty)),
)
POSTGRES = (
    Fault(
        name="Postgres killed",
        breaks=("postgres",),
        begin=_in_thread(lambda world: world.postgres.kill()),
        end=_in_thread(lambda world: world.postgres.restart()),
    ),
    Fault(
        name="Postgres frozen",
        breaks=("postgres",),
        begin=_in_thread(lambda world: world.postgres.freeze()),
        end=_in_thread(lambda world: world.postgres.thaw()),
    ),
    Fault(
        name="Postgres connections exhausted",
        breaks=("postgres",),
        begin=_in_thread(lambda world: world.postgres.exhaust()),
        end=_in_thread(lambda world: world.postgres.relieve()),
    ),
)
FIRST = (
    Fault(
        name="first target down",
        breaks=("first",),
        begin=_in_thread(lambda world: world.first.refuse()),
        end=_in_thread(lambda world: world.first.accept()),
    ),
    _first("hanging", hangs),
    _first("trickling", trickles),
    _first("429", fails(429, retry_after=RETRY_AFTER_S)),
    _first("500 half of the time", half_of(fails(500))),
)
_REPLICA = Fault(
    name="one replica killed", breaks=(), begin=_in_thread(lambda world: world.kill_replica(1)), end=_in_thread(id)
)
_BY_NAME = {fault.name: fault for fault in (*VALKEY, *POSTGRES, *FIRST, _REPLICA, _first("500", fails(500)))}


def _pair(one: str, other: str) -> Fault:
    both = _BY_NAME[one], _BY_NAME[other]

    async def begin(world: World) -> None:
        await asyncio.gather(*(fault.begin(world) for fault in both))

    async def end(world: World) -> None:
        await asyncio.gather(*(fault.end(world) for fault in both))

    return Fault(
        name=f"{one} + {other}",
        breaks=both[0].breaks + both[1].breaks,
        begin=begin,
        end=end,
        through_proxy=any(fault.through_proxy for fault in both),
    )


ALL: Sequence[Fault] = (
    *VALKEY,
    *POSTGRES,
    *FIRST,
    _pair("Valkey frozen", "first target hanging"),
    _pair("Postgres killed", "Valkey killed"),
    _pair("Postgres frozen", "first target 500"),
    _pair("one replica killed", "Valkey slow"),
)
"""Issue 7's list."""
