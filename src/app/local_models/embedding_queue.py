"""Calls that wait for the embedder: cut into small batches, taking turns, one batch at a time in the child.

Pure bookkeeping; knows no process. One `LaneQueue` a lane, all in the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from app.errors import ContextTooLong
from app.local_models.errors import EmbedderBusy, EmbedderUnavailable
from app.local_models.frames import Kind, Lane, Reply, Row, rows_of
from plugins.contract.errors import WattosError

MAX_CRASHES = 1
"""A call whose batch was in the child at a crash is tried once more; twice, and it may well be the cause."""


class Embedded(msgspec.Struct, frozen=True):
    """One row and one count (prefix and specials included) for each text, in order."""

    rows: list[Row]
    n_tokens: list[int]


class LaneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one lane may hold and how long things may take."""

    queued_bytes: int
    batch_bytes: int
    """Of text in one batch, unless one text alone is longer."""
    batch_texts: int
    call_timeout_s: float
    batch_timeout_s: float
    """After this the child counts as frozen."""


class Job:
    """One call: its texts (UTF-8), how far it is, and where its result goes. `max_tokens` None: texts of any length."""

    def __init__(self, kind: Kind, texts: Sequence[bytes], max_tokens: int | None, dimensions: int) -> None:
        self.kind: Kind = kind
        self.texts = texts
        self.n_bytes = sum(map(len, texts))
        self.crashes = 0
        self.result: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        self._max_tokens = max_tokens
        self._dimensions = dimensions
        self._rows: list[Row] = []
        self._n_tokens: list[int] = []

    def next_texts(self, limits: LaneLimits) -> list[bytes]:
        """The next batch: at least one text, then as many as fit."""
        batch: list[bytes] = []
        size = 0
        done = len(self._n_tokens)
        for text in self.texts[done : done + limits.batch_texts]:
            size += len(text)
            if batch and size > limits.batch_bytes:
                break
            batch.append(text)
        return batch

    def take(self, reply: Reply) -> None:
        """Keep what the child answered to the last batch; settle the result when that was all."""
        for index, n_tokens in enumerate(reply.n_tokens, start=len(self._n_tokens)):
            if self._max_tokens is not None and n_tokens > self._max_tokens:
                message = f"Text {index} has {n_tokens} tokens; wattos-embed takes at most {self._max_tokens}."
                return self.fail(ContextTooLong(message, param="input"))
        if reply.failure is not None or not reply.n_tokens:
            return self.fail(EmbedderUnavailable(f"The embedder failed on this text ({reply.failure})."))
        self._n_tokens += reply.n_tokens
        self._rows += rows_of(reply.rows, self._dimensions)
        if len(self._n_tokens) == len(self.texts):
            self.result.set_result(Embedded(self._rows, self._n_tokens))
        return None

    def fail(self, error: WattosError) -> None:
        """Settle the result, unless the caller has left."""
        if not self.result.done():
            self.result.set_exception(error)


class LaneQueue:
    """The jobs of one lane. After each batch it is the next job's turn: a short one never waits for a long one."""

    def __init__(self, lane: Lane, limits: LaneLimits) -> None:
        self.lane: Lane = lane
        self.limits = limits
        self._waiting: deque[Job] = deque()
        self._in_child: Job | None = None
        self._queued_bytes = 0

    def add(self, job: Job) -> None:
        """Raises: EmbedderBusy when the lane is full."""
        if self._queued_bytes + job.n_bytes > self.limits.queued_bytes:
            raise EmbedderBusy(
                f"{self._queued_bytes >> 10} KiB of text wait for the embedder already; {job.n_bytes >> 10} KiB more "
                f"would make it over {self.limits.queued_bytes >> 10}. Send less at once, or later."
            )
        self._queued_bytes += job.n_bytes
        job.result.add_done_callback(lambda _result: self._release(job))
        self._waiting.append(job)

    def next_batch(self) -> tuple[Kind, list[bytes]] | None:
        """What goes to the child now; None while it has a batch of this lane, or when nothing waits."""
        if self._in_child is not None:
            return None
        while self._waiting:
            job = self._waiting.popleft()
            if not job.result.done():  # else its caller has left
                self._in_child = job
                return job.kind, job.next_texts(self.limits)
        return None

    def answered(self, reply: Reply) -> None:
        """The child answered this lane's batch."""
        job, self._in_child = self._in_child, None
        if job is not None and not job.result.done():
            job.take(reply)
            if not job.result.done():
                self._waiting.append(job)

    def crashed(self) -> None:
        """The child is gone. Its batch goes to the front again, once."""
        job, self._in_child = self._in_child, None
        if job is None or job.result.done():
            return
        job.crashes += 1
        if job.crashes > MAX_CRASHES:
            job.fail(EmbedderUnavailable("The embedder crashed twice on this call."))
        else:
            self._waiting.appendleft(job)

    def drain(self) -> Iterator[Job]:
        """Take out all that waits."""
        while self._waiting:
            yield self._waiting.popleft()

    def _release(self, job: Job) -> None:
        self._queued_bytes -= job.n_bytes
