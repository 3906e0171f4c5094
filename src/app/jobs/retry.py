"""When a job that did not succeed is done again."""

from __future__ import annotations

import asyncio
import logging

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.jobs import Job

from plugins.contract.errors import RetryableError

logger = logging.getLogger("jobs")

MAX_RETRY_S = 60
"""A reason that lasts longer (an embedder that cannot start) costs one attempt a minute."""


class Backoff(BaseRetryStrategy):
    """1, 2, 4 … 60 s, for as long as the reason lasts: an embedder that is away must not fail a document.

    A job that is interrupted because its worker stops is free again at once; procrastinate alone would end it.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_in={"seconds": 0})
        if not isinstance(exception, RetryableError):
            return None
        delay_s = min(2 ** min(job.attempts, 10), MAX_RETRY_S)
        if exception.retry_after_s is not None:
            delay_s = max(delay_s, round(exception.retry_after_s))
        logger.warning("job %s is tried again in %d s: %s", job.id, delay_s, exception.code)
        return RetryDecision(retry_in={"seconds": delay_s})
