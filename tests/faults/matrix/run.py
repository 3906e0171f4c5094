"""One fault from begin to end under load, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from app.database.migrate import upgrade
from faults.matrix.callers import Callers, Heard, p99_ms
from faults.matrix.faults import Broken, Fault
from faults.matrix.postgres_server import PostgresServer
from faults.matrix.results import Row
from faults.matrix.watching import LOOK_TIMEOUT_S, Watch
from faults.matrix.world import Timing, World, running_world
from postgres import TEMPLATE, Cluster

WARM_UP_S = 1.0
"""First calls make connections and lend money: they are in no figure."""

AFTERMATH_S = 3.0
"""Calls go on when all is used again: what comes back must fail nobody either."""

LOOK_EVERY_S = 0.5
"""A reading of the metrics costs the replica some ms: not more often."""


class _Seen:
    """Of the time since the fault began."""

    def __init__(self) -> None:
        self.memory_bytes: dict[int, int] = {}
        self.opened_s: dict[int, float] = {}


async def with_template(postgres: PostgresServer) -> Cluster:
    """The server, with a migrated database to clone."""
    cluster = Cluster(postgres.url)
    await cluster.execute(f"create database {TEMPLATE}")
    await upgrade(cluster.database_url(TEMPLATE))
    return cluster


async def one_fault(directory: Path, postgres: PostgresServer, cluster: Cluster, fault: Fault, timing: Timing) -> Row:
    """In a world of its own, which is gone afterwards."""
    url = await cluster.create_database()
    async with running_world(directory, postgres, url, timing, through_proxy=fault.through_proxy) as world:
        return await ridden_out(world, fault, timing)


async def ridden_out(world: World, fault: Fault, timing: Timing) -> Row:
    timeout = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        Callers([one.url for one in world.replicas], world.key, world.killed) as callers,
    ):
        watches = [Watch(session, replica) for replica in world.replicas]
        await asyncio.sleep(WARM_UP_S)
        counted_s = time.monotonic()
        await asyncio.sleep(timing.lead_in_s)
        memory_bytes = [watch.resident_bytes() for watch in watches]
        log_bytes = sum(watch.log_bytes() for watch in watches)

        began_s, seen = time.monotonic(), _Seen()
        await fault.begin(world)
        looking = asyncio.create_task(_look(world, watches, seen, began_s))
        await asyncio.sleep(began_s + timing.hold_s - time.monotonic())
        looking.cancel()
        await asyncio.wait([looking])
        ended_s = time.monotonic()
        await fault.end(world)
        answers_s = time.monotonic()
        back_s = await _back(world, fault.breaks, watches, callers, answers_s, timing.give_up_s)
        await asyncio.sleep(AFTERMATH_S)
        _look_at_memory(world, watches, seen)
        log_bytes = sum(watch.log_bytes() for watch in watches) - log_bytes
    heard = sorted(callers.heard, key=lambda one: one.began_s)
    before = [one for one in heard if counted_s <= one.began_s and one.began_s + one.took_ms / 1000 < began_s]
    # A call that the fault met under way counts, too.
    since = [one for one in heard if one.began_s + one.took_ms / 1000 >= began_s]
    settled = [one for one in since if began_s + timing.settling_s <= one.began_s < ended_s]
    opened = [seen.opened_s.get(number) for number in world.living()]
    return Row(
        fault=fault.name,
        n_calls=len(since),
        n_cached=sum(one.is_cached for one in since),
        failures=dict(Counter(one.failure for one in since if one.failure and not one.was_cut)),
        n_cut=sum(one.was_cut for one in since),
        p99_before_ms=round(p99_ms(before), 1),
        p99_during_ms=round(p99_ms(settled), 1),
        slowest_ms=round(max(one.took_ms for one in since), 1),
        memory_ratio=round(max(n / memory_bytes[number] for number, n in seen.memory_bytes.items()), 3),
        log_bytes_per_call=round(log_bytes / len(since), 1),
        opened_s=None if None in opened else round(max(one for one in opened if one is not None), 1),
        back_s=back_s,
    )


async def _look(world: World, watches: Sequence[Watch], seen: _Seen, began_s: float) -> None:
    """Until it is cancelled. Metrics may take a second while the database is away, which must not stretch the fault."""
    while True:
        _look_at_memory(world, watches, seen)
        waited_for = [number for number in world.living() if number not in seen.opened_s]
        for number, is_open in zip(
            waited_for, await asyncio.gather(*(_is_open(watches[n]) for n in waited_for)), strict=True
        ):
            if is_open:
                seen.opened_s[number] = time.monotonic() - began_s
        await asyncio.sleep(LOOK_EVERY_S)


async def _is_open(watch: Watch) -> bool:
    try:
        return await watch.has_open_breaker()
    except (aiohttp.ClientError, TimeoutError):
        return False


def _look_at_memory(world: World, watches: Sequence[Watch], seen: _Seen) -> None:
    for number in world.living():
        n_bytes = watches[number].resident_bytes()
        seen.memory_bytes[number] = max(n_bytes, seen.memory_bytes.get(number, 0))


async def _back(
    world: World, breaks: Sequence[Broken], watches: Sequence[Watch], callers: Callers, since_s: float, give_up_s: float
) -> dict[str, float | None]:
    """By what was broken: seconds until every living replica had used it."""
    found: dict[tuple[Broken, int], float] = {}
    waited_for = {(broken, number) for broken in breaks for number in world.living()}

    async def look(broken: Broken, number: int) -> None:
        if broken == "first":
            if (at_s := _answered_first(callers.heard, number, since_s)) is not None:
                found[broken, number] = at_s - since_s
        elif await watches[number].uses(broken):
            found[broken, number] = time.monotonic() - since_s

    while len(found) < len(waited_for) and time.monotonic() < since_s + give_up_s:
        await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.gather(*(look(*one) for one in sorted(waited_for - found.keys())))
    return {
        broken: _latest([found.get((broken, number)) for number in world.living()]) for broken in dict.fromkeys(breaks)
    }


def _answered_first(heard: Sequence[Heard], replica: int, since_s: float) -> float | None:
    """When a call that began since then was answered by the first target at this replica, and not from the cache."""
    for one in heard:
        if one.replica == replica and one.target == "first" and not one.is_cached and one.began_s >= since_s:
            return one.began_s + one.took_ms / 1000
    return None


def _latest(times_s: Sequence[float | None]) -> float | None:
    known = [one for one in times_s if one is not None]
    return round(max(known), 1) if len(known) == len(times_s) else None
