"""How calls share the embedder: turns, retries, limits. Without a process."""

from __future__ import annotations

import asyncio
from array import array

import pytest

from app.errors import ContextTooLong
from app.local_models.embedding_queue import Job, LaneLimits, LaneQueue
from app.local_models.errors import EmbedderBusy, EmbedderUnavailable
from app.local_models.frames import Reply

LIMITS = LaneLimits(queued_bytes=100, batch_bytes=4, batch_texts=3, call_timeout_s=1, batch_timeout_s=1)


def job_of(*texts: bytes) -> Job:
    return Job("passage", texts, max_tokens=10, dimensions=1)


def queue_of(*jobs: Job) -> LaneQueue:
    queue = LaneQueue("bulk", LIMITS)
    for job in jobs:
        queue.add(job)
    return queue


def answer(queue: LaneQueue, texts: list[bytes]) -> None:
    """What the child would say: each text's row is its first byte, its tokens are its bytes."""
    rows = array("f", [text[0] for text in texts]).tobytes()
    queue.answered(Reply(1, [len(text) for text in texts], rows))


def work_off(queue: LaneQueue) -> list[list[bytes]]:
    """Answer until nothing waits. Returns: the batches, in order."""
    batches = []
    while (batch := queue.next_batch()) is not None:
        batches.append(batch[1])
        answer(queue, batch[1])
    return batches


async def test_batches_hold_what_fits_and_at_least_one_text() -> None:
    """Small batches by bytes and by count; a long text goes alone."""
    job = Job("passage", [b"a", b"b", b"c", b"d", b"too long for one", b"e"], max_tokens=100, dimensions=1)
    assert work_off(queue_of(job)) == [[b"a", b"b", b"c"], [b"d"], [b"too long for one"], [b"e"]]
    result = await job.result
    assert [row[0] for row in result.rows] == [97, 98, 99, 100, 116, 101]
    assert result.n_tokens == [1, 1, 1, 1, 16, 1]


async def test_jobs_take_turns_batch_by_batch() -> None:
    """A short call that comes after a long one waits for one batch, not for the whole call."""
    long, short = job_of(b"aaaa", b"bbbb", b"cccc"), job_of(b"zz")
    assert work_off(queue_of(long, short)) == [[b"aaaa"], [b"zz"], [b"bbbb"], [b"cccc"]]


async def test_only_one_batch_is_in_the_child() -> None:
    """The pipe never holds more than one batch of a lane."""
    queue = queue_of(job_of(b"a"), job_of(b"b"))
    assert queue.next_batch() is not None
    assert queue.next_batch() is None


async def test_a_call_whose_caller_left_is_not_worked_on() -> None:
    """A cancelled call costs nothing, wherever it is, and frees its room."""
    waiting, running, wanted = job_of(b"x"), job_of(b"aaaa", b"bbbb"), job_of(b"y")
    queue = queue_of(running, waiting, wanted)
    queue.next_batch()
    waiting.result.cancel()
    running.result.cancel()
    answer(queue, [b"aaaa"])
    assert work_off(queue) == [[b"y"]]
    await asyncio.sleep(0)
    queue.add(Job("passage", [b"a" * LIMITS.queued_bytes], max_tokens=None, dimensions=1))


async def test_a_call_is_tried_again_after_one_crash_but_not_after_two() -> None:
    """The first crash is not shown to the caller; a call that crashes the child twice is given up."""
    job = job_of(b"aaaa", b"bbbb")
    queue = queue_of(job)
    assert queue.next_batch() == ("passage", [b"aaaa"])
    queue.crashed()
    assert queue.next_batch() == ("passage", [b"aaaa"])
    answer(queue, [b"aaaa"])
    assert queue.next_batch() == ("passage", [b"bbbb"])
    queue.crashed()
    assert queue.next_batch() is None
    with pytest.raises(EmbedderUnavailable, match="crashed twice"):
        await job.result


async def test_a_crash_does_not_count_for_calls_that_only_waited() -> None:
    """Only the batch that was in the child is suspect."""
    suspect, bystander = job_of(b"a"), job_of(b"b")
    queue = queue_of(suspect, bystander)
    for _ in range(2):
        queue.next_batch()
        queue.crashed()
    assert work_off(queue) == [[b"b"]]
    assert (await bystander.result).n_tokens == [1]
    assert isinstance(suspect.result.exception(), EmbedderUnavailable)


async def test_a_full_queue_refuses() -> None:
    """Bounded: what cannot be worked off in time is refused at once, and room comes back."""
    first = job_of(b"a" * 10, b"b" * 90)
    queue = queue_of(first)
    with pytest.raises(EmbedderBusy):
        queue.add(job_of(b"c"))
    first.result.cancel()
    await asyncio.sleep(0)
    queue.add(job_of(b"c"))


async def test_a_text_over_the_limit_is_named() -> None:
    """The caller learns which of its texts is too long, and how long it is."""
    job = job_of(b"aaaa", b"b" * 11)
    work_off(queue_of(job))
    with pytest.raises(ContextTooLong, match="Text 1 has 11 tokens"):
        await job.result


async def test_a_failed_batch_fails_its_call_only() -> None:
    """One text that the engine cannot do is not the others' problem."""
    bad, good = job_of(b"a"), job_of(b"b")
    queue = queue_of(bad, good)
    queue.next_batch()
    queue.answered(Reply(1, failure="ValueError"))
    work_off(queue)
    assert (await good.result).n_tokens == [1]
    with pytest.raises(EmbedderUnavailable, match="ValueError"):
        await bad.result
