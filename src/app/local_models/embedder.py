"""The local embedder, as the rest of the server sees it: texts in, unit vectors out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence

from app.errors import ContextTooLong
from app.local_models.child_process import ChildProcess, Launch
from app.local_models.embedder_child import MAX_TOKENS, WINDOW_TOKENS
from app.local_models.embedding_queue import Embedded, Job, LaneLimits, LaneQueue
from app.local_models.errors import ChildFailed, EmbedderUnavailable
from app.local_models.frames import BadFrame, Hello, Kind, Lane, Reply, Request, Row, encode_frame, read_frame
from app.local_models.supervisor import ChildState, Phase, RestartPolicy, Supervisor

MODEL = "wattos-embed"
DIMENSIONS = 384
N_THREADS = 2
"""The smallest machine we promise to run on has two cores."""
READY_TIMEOUT_S = 20.0
"""0.3 s measured; 72 MB from a slow disk are another second."""
MAX_TEXT_BYTES = 1 << 18
"""256 KiB can only be under MAX_TOKENS if it is mostly blanks; refused before anything is copied."""
URGENT_BYTES = 8192
"""Urgent calls up to here in total never wait for the bulk lane: 2 s of work at most, in four turns."""
FAIL_FAST_S = 2.0
"""Callers wait for a restart that is this near; a child that keeps crashing is said to be down at once."""

LIMITS: Mapping[Lane, LaneLimits] = {
    # A query of 60 bytes takes 15 ms: 32 KiB are 8 s of work. A batch takes 0.5 s at most: 5 s are a frozen child.
    "urgent": LaneLimits(
        queued_bytes=1 << 15, batch_bytes=2048, batch_texts=16, call_timeout_s=10.0, batch_timeout_s=5.0
    ),
    # 1,500 tokens/s are 4.5 KB/s (measured, German and English): 1 MiB is 4 minutes of work. Throughput is flat from 1
    # to 32 texts a batch (5.1 to 5.3 passages of 290 tokens a second), so small wins: turns change every 0.5 s and the
    # child stays under 100 MB. The longest text takes 8 s; niced beside two busy cores it may get a tenth of the time.
    "bulk": LaneLimits(
        queued_bytes=1 << 20, batch_bytes=2048, batch_texts=16, call_timeout_s=300.0, batch_timeout_s=120.0
    ),
    # Counting runs at 0.4 MB/s (measured): 0.2 s a batch, 10 s a full queue.
    "count": LaneLimits(
        queued_bytes=1 << 22, batch_bytes=1 << 16, batch_texts=256, call_timeout_s=60.0, batch_timeout_s=30.0
    ),
}


class _Link:
    """What the supervisor runs: the lanes on this side, the child on the other."""

    name = "embedder"
    ready_timeout_s = READY_TIMEOUT_S

    def __init__(self, n_threads: int, limits: Mapping[Lane, LaneLimits]) -> None:
        self.lanes = {lane: LaneQueue(lane, lane_limits) for lane, lane_limits in limits.items()}
        self.on_frozen = lambda: None
        self._n_threads = n_threads
        self._ids = itertools.count(1)
        self._child: ChildProcess | None = None
        self._asked: dict[int, tuple[LaneQueue, asyncio.TimerHandle]] = {}

    def launch(self) -> Launch:
        env = {
            "OMP_NUM_THREADS": str(self._n_threads),
            # Threads sleep at barriers. Spinning, the default, halves the throughput as soon as anything else runs
            # (measured: 5.0 passages/s asleep, 2.1 spinning), and burns the cores that the web server needs.
            "OMP_WAIT_POLICY": "passive",
            "OPENBLAS_NUM_THREADS": "1",  # numpy only holds the rows
        }
        return Launch(module="app.local_models.embedder_child", env=env)

    async def greet(self, child: ChildProcess) -> None:
        try:
            hello = await read_frame(child.stdout, Hello)
        except BadFrame as exc:
            raise ChildFailed("did not say hello") from exc
        if hello.dimensions != DIMENSIONS:
            raise ChildFailed(f"has {hello.dimensions} dimensions instead of {DIMENSIONS}")

    async def attend(self, child: ChildProcess) -> None:
        self._child = child
        try:
            for queue in self.lanes.values():
                self.pump(queue)
            while True:
                self._deliver(await read_frame(child.stdout, Reply))
        except BadFrame as exc:
            raise ChildFailed("sent what is not a frame") from exc
        finally:
            self._child = None

    def _deliver(self, reply: Reply) -> None:
        asked = self._asked.pop(reply.id, None)
        if asked is None:
            raise ChildFailed("answered what was not asked")
        queue, timer = asked
        timer.cancel()
        queue.answered(reply)
        self.pump(queue)

    def lost(self, state: ChildState) -> None:
        for queue, timer in self._asked.values():
            timer.cancel()
            queue.crashed()
        self._asked.clear()
        if not answers_soon(state):
            for queue in self.lanes.values():
                for job in queue.drain():
                    job.fail(unavailable(state))

    def pump(self, queue: LaneQueue) -> None:
        """Send the lane's next batch, if the child is there and has none of this lane."""
        if self._child is None or (batch := queue.next_batch()) is None:
            return
        kind, texts = batch
        request = Request(next(self._ids), queue.lane, kind, texts)
        # One batch a lane is on its way at most: the pipe's buffer is bounded without waiting for it to drain.
        self._child.stdin.write(encode_frame(request))
        timer = asyncio.get_running_loop().call_later(queue.limits.batch_timeout_s, self.on_frozen)
        self._asked[request.id] = queue, timer


class LocalEmbedder:
    """multilingual-e5-small in a supervised child. `env`: the process environment, of which the child gets little.

    Texts up to `window_tokens` are read whole; up to `max_tokens` they are cut into windows whose vectors are averaged.
    """

    model = MODEL
    dimensions = DIMENSIONS
    window_tokens = WINDOW_TOKENS
    max_tokens = MAX_TOKENS

    def __init__(
        self,
        *,
        env: Mapping[str, str],
        n_threads: int = N_THREADS,
        limits: Mapping[Lane, LaneLimits] = LIMITS,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._link = _Link(n_threads, limits)
        self._supervisor = Supervisor(self._link, env=env, policy=policy)
        self._link.on_frozen = lambda: self._supervisor.kill("a batch was not answered in time")

    @property
    def state(self) -> ChildState:
        """For health checks."""
        return self._supervisor.state

    async def start(self) -> None:
        """Begin. Returns at once; calls made before the child is ready wait for it."""
        self._supervisor.start()

    async def stop(self) -> None:
        """End the child; calls that still wait fail. No process is left when this returns."""
        await self._supervisor.stop()

    async def embed(
        self, texts: Sequence[str], kind: Kind, *, urgent: bool | None = None, timeout_s: float | None = None
    ) -> list[Row]:
        """Embed in order. Returns: float32[len(texts), 384] as a list of unit rows. Raises: as `embed_counted`."""
        return (await self.embed_counted(texts, kind, urgent=urgent, timeout_s=timeout_s)).rows

    async def embed_counted(
        self, texts: Sequence[str], kind: Kind, *, urgent: bool | None = None, timeout_s: float | None = None
    ) -> Embedded:
        """The same, with the tokens of each text.

        `urgent`: somebody waits for it, so it goes before all passages that are ingested, if it is not too long for
        that (8 KiB); None: queries are. `timeout_s`: for the whole call, by default 10 s if urgent, else 300 s.

        Raises: ContextTooLong (a text over `max_tokens`), EmbedderBusy (queue full), EmbedderUnavailable (not running,
        crashed twice on this call, or out of time).
        """
        wanted = kind == "query" if urgent is None else urgent
        lane: Lane = "urgent" if wanted and sum(map(len, texts)) <= URGENT_BYTES else "bulk"
        return await self._call(lane, texts, kind, timeout_s)

    async def count_tokens(self, texts: Sequence[str], kind: Kind = "passage") -> list[int]:
        """The exact number of tokens of each text as it is embedded (prefix and specials included), in order.

        Raises: as `embed_counted`.
        """
        return (await self._call("count", texts, kind, None)).n_tokens

    async def _call(self, lane: Lane, texts: Sequence[str], kind: Kind, timeout_s: float | None) -> Embedded:
        if not texts:
            return Embedded([], [])
        if not answers_soon(self.state):
            raise unavailable(self.state)
        queue = self._link.lanes[lane]
        encoded = [_utf8(index, text) for index, text in enumerate(texts)]
        job = Job(kind, encoded, None if lane == "count" else MAX_TOKENS, DIMENSIONS)
        queue.add(job)
        self._link.pump(queue)
        timeout_s = queue.limits.call_timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await job.result
        except TimeoutError as exc:
            raise EmbedderUnavailable(f"The embedder did not answer within {timeout_s:.0f} s.") from exc


def answers_soon(state: ChildState) -> bool:
    """Whether it is worth waiting."""
    return state.phase is not Phase.STOPPED and (state.retry_in_s or 0.0) <= FAIL_FAST_S


def unavailable(state: ChildState) -> EmbedderUnavailable:
    """Why there is no answer now."""
    if state.phase is Phase.STOPPED:
        return EmbedderUnavailable("The embedder is not running.")
    if state.phase is Phase.STARTING:
        return EmbedderUnavailable("The embedder is starting: try again in a few seconds.")
    message = f"The embedder {state.last_error}; it is started again in {state.retry_in_s or 0:.0f} s."
    return EmbedderUnavailable(message, retry_after_s=state.retry_in_s)


def _utf8(index: int, text: str) -> bytes:
    """Raises: ContextTooLong. Half a surrogate pair, which JSON can carry, becomes a question mark."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MAX_TEXT_BYTES:
        message = f"Text {index} has {len(encoded)} bytes; wattos-embed takes at most {MAX_TEXT_BYTES}."
        raise ContextTooLong(message, param="input")
    return encoded
