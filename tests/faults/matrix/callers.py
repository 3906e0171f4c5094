"""Fifty callers who ask two replicas once a second each: half for streams, some for answers that may be kept.

A caller stays with its replica, as behind a balancer. Where that one was killed it goes to the other, as a balancer or
OpenAI's clients do; a connection that a living replica refuses or breaks off is a failure.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import aiohttp
import msgspec

N_CALLERS = 50
"""Issue 7."""

PERIOD_S = 1.0
"""Fifty calls a second take a tenth of a core: what is measured is the fault, not the load."""

CLIENT_TIMEOUT_S = 30.0
"""Far over all that a call may take here: two time-outs of the first target and the second one's answer."""

N_KEPT = 7
"""Different questions whose answers may be kept: each is asked again within a second or so."""


class Heard(msgspec.Struct, frozen=True):
    """One call as its caller saw it. `began_s` is monotonic."""

    began_s: float
    took_ms: float
    replica: int
    """Who answered, or failed last."""
    failure: str
    """Empty: a whole answer."""
    target: str
    """As the answer says; empty where there is none."""
    is_cached: bool
    was_cut: bool
    """Its replica was killed when the answer had begun."""


class Callers:
    """`async with` begins the calls and ends them; `heard` grows meanwhile."""

    def __init__(self, urls: Sequence[str], key: str, killed: set[int]) -> None:
        """`killed`: the replicas that were; it may grow at any time."""
        self.heard: list[Heard] = []
        self._urls = urls
        self._killed = killed
        self._key = key
        self._over = asyncio.Event()

    async def __aenter__(self) -> Callers:
        self._session = aiohttp.ClientSession(
            headers={"authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S),
            # Shorter than the servers keep idle connections (5 s), so that none is used just as it ends.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2.5),
        )
        self._tasks = [asyncio.create_task(self._calling(number)) for number in range(N_CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)
        await self._session.close()

    async def _calling(self, number: int) -> None:
        chance = random.Random(number)
        home, due_s = number % len(self._urls), time.monotonic() + chance.random() * PERIOD_S
        n_calls = 0
        while not await self._waited_in_vain(due_s):
            n_calls += 1
            heard = await self._call(home, number, n_calls)
            if heard.failure and heard.replica in self._killed and not heard.was_cut:
                home = 1 - heard.replica
                again = await self._call(home, number, n_calls)
                heard = msgspec.structs.replace(
                    again, began_s=heard.began_s, took_ms=(again.began_s - heard.began_s) * 1000 + again.took_ms
                )
            self.heard.append(heard)
            # A slow answer delays this caller's next call; the others go on.
            due_s = max(due_s + PERIOD_S, time.monotonic())

    async def _waited_in_vain(self, due_s: float) -> bool:
        """Whether it was over before the time came."""
        try:
            async with asyncio.timeout(max(0.0, due_s - time.monotonic())):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    async def _call(self, replica: int, number: int, n_calls: int) -> Heard:
        is_stream, is_kept = number % 2 == 1, number % 5 == 0
        question = f"question {n_calls % N_KEPT}" if is_kept else f"question {number}-{n_calls}"
        body: dict[str, object] = {
            "model": "chat",
            "messages": [{"role": "user", "content": question}],
            "stream": is_stream,
            "max_tokens": 20,
        }
        if is_kept:
            body["cache"] = {"mode": "readwrite", "ttl_s": 5}
        began_s, failure, target, is_cached, has_begun = time.monotonic(), "", "", False, False
        try:
            async with self._session.post(f"{self._urls[replica]}/v1/chat/completions", json=body) as answer:
                has_begun = True
                target = answer.headers.get("x-wattos-target", "")
                is_cached = answer.headers.get("x-wattos-cache") == "hit"
                failure = _failure(answer.status, await answer.read(), is_stream=is_stream)
        except TimeoutError:
            failure = "no answer"
        except aiohttp.ClientError as exc:
            failure = type(exc).__name__
        was_cut = bool(failure) and has_begun and replica in self._killed
        return Heard(began_s, (time.monotonic() - began_s) * 1000, replica, failure, target, is_cached, was_cut)


def _failure(status: int, body: bytes, *, is_stream: bool) -> str:
    if status != 200:
        try:
            code = msgspec.json.decode(body)["error"]["code"]
        except (msgspec.DecodeError, KeyError, TypeError):
            code = "?"
        return f"{status} {code}"
    if is_stream and not body.endswith(b"data: [DONE]\n\n"):
        return "stream without its end"
    return "" if b"pong" in body or is_stream else "another answer"


def p99_ms(heard: Sequence[Heard]) -> float:
    took = sorted(one.took_ms for one in heard)
    return took[min(len(took) - 1, int(len(took) * 0.99))] if took else 0.0
