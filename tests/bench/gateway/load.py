"""The load generator, a process of its own: a `Job` as JSON on standard input, a list of `Outcome`s as JSON out.

    echo '{"port": 8080, "key": "sk-…", "n_connections": 10, "seconds": 2}' |
        PYTHONPATH=tests .venv/bin/python -m bench.gateway.load

Every prompt is another one, so that no cache answers, unless hits are wanted. Connections are kept; one that breaks is
opened anew.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections import Counter, deque
from itertools import count

import msgspec
import uvloop

from bench.gateway.cases import MODEL, Job, Offer, Outcome, spread
from bench.gateway.client import Connection

CONNECT_TIMEOUT_S = 5.0
PAUSE_S = 0.05
"""Before a refused connection is tried again, so that a dead server does not take all of a core."""

WATCH_S = 0.5
"""How often requests that take too long are looked for."""

TICK_S = 0.001
"""What an open loop waits in: libuv's timers know whole milliseconds."""

FILLER = "Say something about foxes and dogs, please. "

now = time.perf_counter


class Requests:
    """Bytes of one request after the other, all of one length, each with a prompt of its own unless hits are wanted."""

    def __init__(self, job: Job, prompt_bytes: int) -> None:
        salt = os.urandom(4).hex()
        self._numbers = count()
        digits = 8
        filler = (FILLER * (prompt_bytes // len(FILLER) + 1))[: prompt_bytes - len(salt) - digits - 2]
        self._is_hit = job.is_hit
        more = ',"stream":true' if job.is_stream else ""
        if job.is_hit:
            more += ',"cache":{"mode":"readwrite"}'
        start = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"{salt}-'
        end = f' {filler}"}}]{more}}}'
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nAuthorization: Bearer {job.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(start) + digits + len(end)}\r\n\r\n"
        )
        self._form = (head + start).encode() + b"%08d" + end.encode()

    def next(self) -> bytes:
        return self._form % (0 if self._is_hit else next(self._numbers))


class Book:
    """What came of one kind of request."""

    def __init__(self, label: str = "") -> None:
        self.label = label
        self.latencies_s: list[float] = []
        self.first_bytes_s: list[float] = []
        self.errors: Counter[str] = Counter()
        self.started_at = now()
        self.ended_at = self.started_at

    def note(self, error: str | None, since: float, first_byte_at: float) -> None:
        self.ended_at = now()
        if error is not None:
            self.errors[error] += 1
            return
        self.latencies_s.append(self.ended_at - since)
        self.first_bytes_s.append(first_byte_at - since)

    def outcome(self, *, is_stream: bool) -> Outcome:
        return Outcome(
            label=self.label,
            n_calls=len(self.latencies_s),
            seconds=round(self.ended_at - self.started_at, 4),
            errors=dict(self.errors),
            latency_ms=spread(self.latencies_s),
            first_byte_ms=spread(self.first_bytes_s) if is_stream else None,
        )


async def connect(job: Job) -> Connection | None:
    """Returns: None if the server does not take it, after a pause."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(lambda: Connection(now), "127.0.0.1", job.port)
    except OSError:  # TimeoutError is one
        await asyncio.sleep(PAUSE_S)
        return None
    return connection


class Closed:
    """As many callers as connections; each asks anew when it has its answer."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._requests = Requests(job, job.prompt_bytes)
        self._book = Book()
        self._left = job.n_calls if job.n_calls is not None else sys.maxsize
        self._ends_at = now() + job.seconds if job.seconds is not None else float("inf")
        self._callers: list[Caller] = []

    async def run(self) -> list[Outcome]:
        self._callers = [Caller(self) for _ in range(self._job.n_connections)]
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            await asyncio.gather(*(caller.run(self._job) for caller in self._callers))
            watch.cancel()
        return [self._book.outcome(is_stream=self._job.is_stream)]

    def request(self) -> bytes | None:
        """Returns: None when it is over."""
        if self._left <= 0 or now() >= self._ends_at:
            return None
        self._left -= 1
        return self._requests.next()

    def note(self, error: str | None, since: float, first_byte_at: float) -> None:
        self._book.note(error, since, first_byte_at)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for caller in self._callers:
                connection = caller.connection
                if connection and not connection.is_idle and now() - connection.sent_at > self._job.timeout_s:
                    connection.abort("timeout")


class Caller:
    """One connection's side of a closed loop."""

    def __init__(self, loop: Closed) -> None:
        self._loop = loop
        self.connection: Connection | None = None
        self._ended = asyncio.Event()

    async def run(self, job: Job) -> None:
        """A task only sleeps here while the connection lives: answers ask for the next one by themselves."""
        while (request := self._loop.request()) is not None:
            self.connection = await connect(job)
            if self.connection is None:
                self._loop.note("connect", now(), 0.0)
                continue
            self._ended.clear()
            self.connection.send(request, self, is_stream=job.is_stream)
            self._is_stream = job.is_stream
            await self._ended.wait()
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.close()

    def answered(self, error: str | None, first_byte_at: float) -> None:
        connection = self.connection
        assert connection is not None
        self._loop.note(error, connection.sent_at, first_byte_at)
        request = self._loop.request() if connection.is_open else None
        if request is None:
            self._ended.set()
        else:
            connection.send(request, self, is_stream=self._is_stream)


class Due:
    """One request of an open loop, from the moment it should be sent."""

    def __init__(self, loop: Open, at: float, request: bytes, book: Book) -> None:
        self._loop, self._at, self.request, self._book = loop, at, request, book
        self.connection: Connection | None = None

    def answered(self, error: str | None, first_byte_at: float) -> None:
        self._book.note(error, self._at, first_byte_at)
        self._loop.over(self)


class Open:
    """Requests come when they come. What finds no connection waits for one, and its wait counts."""

    def __init__(self, job: Job) -> None:
        assert job.seconds is not None
        self._job = job
        self._seconds = job.seconds
        self._idle: list[Connection] = []
        self._waiting: deque[Due] = deque()
        self._running: set[Due] = set()
        self._n_opened = 0
        self._is_all_offered = False
        self._ended = asyncio.Event()

    async def run(self) -> list[Outcome]:
        parts = [(offer, Requests(self._job, offer.prompt_bytes), Book(offer.label)) for offer in self._job.offers]
        begin = now()
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(group))
            await asyncio.gather(*(self._offer(begin, *part, group) for part in parts))
            self._is_all_offered = True
            self._end_if_over()
            await self._ended.wait()
            watch.cancel()
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        return [book.outcome(is_stream=self._job.is_stream) for _, _, book in parts]

    async def _offer(
        self, begin: float, offer: Offer, requests: Requests, book: Book, group: asyncio.TaskGroup
    ) -> None:
        for number in range(int(self._seconds * offer.per_second)):
            at = begin + number / offer.per_second
            if (wait_s := at - now()) > 0:
                await asyncio.sleep(math.ceil(wait_s / TICK_S) * TICK_S)
            self._waiting.append(Due(self, at, requests.next(), book))
            self._send()
            self._open_for_waiting(group)

    def _open_for_waiting(self, group: asyncio.TaskGroup) -> None:
        if self._waiting and self._n_opened < self._job.n_connections:
            self._n_opened += 1
            group.create_task(self._open())

    async def _open(self) -> None:
        connection = await connect(self._job)
        if connection is None:
            self._n_opened -= 1
            if self._waiting:
                self._waiting.popleft().answered("connect", 0.0)
            return
        self._idle.append(connection)
        self._send()

    def _send(self) -> None:
        while self._waiting and self._idle:
            connection = self._idle.pop()
            if not connection.is_open:
                self._n_opened -= 1
                continue
            due = self._waiting.popleft()
            due.connection = connection
            self._running.add(due)
            connection.send(due.request, due, is_stream=self._job.is_stream)

    def over(self, due: Due) -> None:
        self._running.discard(due)
        if due.connection is not None:
            self._idle.append(due.connection)
            self._send()
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._is_all_offered and not self._running and not self._waiting:
            self._ended.set()

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for due in list(self._running):
                if due.connection and now() - due.connection.sent_at > self._job.timeout_s:
                    due.connection.abort("timeout")
            self._open_for_waiting(group)


async def run(job: Job) -> list[Outcome]:
    return await (Open(job) if job.offers else Closed(job)).run()


if __name__ == "__main__":
    outcomes = uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)))
    sys.stdout.buffer.write(msgspec.json.encode(outcomes))
