"""Two replicas with a Valkey between them, load on both, and what came of it: for the short test and the long run."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import httpx
import msgspec

from gateway import config
from server import RunningServer, environment, running
from upstream import Upstream, running_upstream
from valkey_server import ValkeyServer, running_valkey

CLIENT_TIMEOUT_S = 5.0
"""A request that takes longer hangs."""


class Answered(msgspec.Struct, frozen=True):
    """One request, in seconds of one clock."""

    sent_s: float
    answered_s: float
    status: int
    """0: none."""

    @property
    def took_ms(self) -> float:
        return (self.answered_s - self.sent_s) * 1000


class Replicas:
    """Two servers on one database and one Valkey."""

    def __init__(self, servers: Sequence[RunningServer], valkey: ValkeyServer, upstream: Upstream) -> None:
        self.servers = servers
        self.valkey = valkey
        self.upstream = upstream

    def limited_key(self, slug: str, **limit: int) -> str:
        """A key with a limit that is in force on both."""
        key = self.servers[0].make_key(slug)
        headers = {"authorization": f"Bearer {key}"}
        me = httpx.get(f"{self.servers[0].url}/api/v1/auth/me", headers=headers, timeout=30).json()
        with self.servers[0].admin() as api:
            body = {"scope": "key", "scope_id": me["key_id"], **limit}
            api.put("/api/v1/limits", json=body).raise_for_status()
        time.sleep(1.0)  # the promise, and nothing is used up by looking
        return key


@contextmanager
def replicas(directory: Path, database_url: str) -> Iterator[Replicas]:
    with ExitStack() as stack:
        valkey = stack.enter_context(running_valkey())
        upstream = stack.enter_context(running_upstream())
        models = directory / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        servers = [
            stack.enter_context(
                running(
                    environment(
                        directory / name,
                        DATABASE_URL=database_url,
                        VALKEY_URL=valkey.url,
                        MODELS_CONFIG=str(models),
                        LOCAL_MODELS_ENABLED="false",
                        WORKER_ENABLED="false",
                    ),
                    directory / f"{name}.log",
                )
            )
            for name in ("a", "b")
        ]
        yield Replicas(servers, valkey, upstream)


async def load(
    urls: Sequence[str], key: str, *, per_s: float, for_s: float, events: Sequence[tuple[float, object]] = ()
) -> list[Answered]:
    """Requests at an even rate, in turn to each address. `events`: after so many seconds, call that."""
    answers: list[Answered] = []
    began_s = time.monotonic()
    waiting = sorted(events, key=lambda event: event[0])
    timeout = aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers={"authorization": f"Bearer {key}"}, timeout=timeout, connector=connector
    ) as session:

        async def ask(url: str) -> None:
            sent_s, status = time.monotonic(), 0
            try:
                async with session.get(f"{url}/v1/models") as answer:
                    await answer.read()
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError):
                pass
            answers.append(Answered(sent_s, time.monotonic(), status))

        async with asyncio.TaskGroup() as group:
            n = 0
            while (now_s := time.monotonic() - began_s) < for_s:
                while waiting and waiting[0][0] <= now_s:
                    _, act = waiting.pop(0)
                    assert callable(act)
                    group.create_task(asyncio.to_thread(act))
                while n < now_s * per_s:
                    group.create_task(ask(urls[n % len(urls)]))
                    n += 1
                await asyncio.sleep(min(0.01, 1 / per_s))
    return answers


def admitted(answers: Sequence[Answered]) -> list[Answered]:
    return sorted((one for one in answers if one.status == 200), key=lambda one: one.answered_s)


def fullest_window(answers: Sequence[Answered], window_s: float = 60.0) -> int:
    """The most that were let in within any 60 s, by when they were answered."""
    times = [one.answered_s for one in admitted(answers)]
    first = most = 0
    for last, at_s in enumerate(times):
        while times[first] <= at_s - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def p99_ms(answers: Sequence[Answered]) -> float:
    took = sorted(one.took_ms for one in answers)
    return took[int(len(took) * 0.99)] if took else 0.0


def statuses(answers: Sequence[Answered]) -> Counter[int]:
    return Counter(one.status for one in answers)
