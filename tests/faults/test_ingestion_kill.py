"""kill -9 of a worker in the middle of a document. This file is also the worker's program (`python <file> …`)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from app.database.engine import Database
from app.jobs.rescue import HEARTBEAT_S, STALLED_AFTER_S
from app.jobs.worker import Worker
from app.knowledge.ingestion.service import BATCH
from app.knowledge.stores.model import INGEST
from plugins.contract.principal import TenantId
from unit.app.knowledge.stores.support import Library, WordEmbedder, eventually, long_document

TESTS = Path(__file__).resolve().parents[1]
SLOW_BATCH_S = 0.2
PICKED_UP_S = STALLED_AFTER_S + HEARTBEAT_S + 4
"""The rescue's own promise, and a busy machine's share."""


@contextmanager
def worker_process(url: str, folder: Path, tenant_id: UUID, batch_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, whose embedder takes `batch_s` a batch."""
    process = subprocess.Popen(
        [sys.executable, __file__, url, str(folder), str(tenant_id), str(batch_s)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.requirement("SVC-3")
async def test_killed_workers_document_is_finished_by_the_next(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """kill -9 in mid-document: a restarted worker goes on within seconds; every passage is there once; progress never
    goes back; what was embedded is not embedded again.
    """
    library = await Library.open(database, tmp_path)
    file_id = await library.upload(long_document())
    store_id = await library.store_of(file_id)
    seen: list[int] = []

    async def has_begun() -> bool:
        seen.append((await library.state(store_id, file_id)).n_done)
        return seen[-1] >= 2 * BATCH

    with worker_process(database_url, tmp_path, library.tenant_id, SLOW_BATCH_S) as process:
        await eventually(has_begun, "the document is half done")
        process.send_signal(signal.SIGKILL)
        process.wait()
    interrupted = await library.state(store_id, file_id)
    assert interrupted.status == "in_progress"
    assert interrupted.n_done < interrupted.n_total

    async def is_done() -> bool:
        state = await library.state(store_id, file_id)
        seen.append(state.n_done)
        return state.status == "completed"

    with worker_process(database_url, tmp_path, library.tenant_id, 0.0):
        await eventually(is_done, "the next worker finished it", within_s=PICKED_UP_S)
    assert seen == sorted(seen)
    assert seen[-1] == interrupted.n_total
    assert [ordinal for ordinal, _ in await library.chunks(store_id, file_id)] == list(range(interrupted.n_total))


async def _work(url: str, folder: Path, tenant_id: UUID, batch_s: float) -> None:
    async def before(_texts: Sequence[str]) -> None:
        await asyncio.sleep(batch_s)

    database = Database(pool_size=2)
    await database.open(url)
    library = Library(database, folder, WordEmbedder(before), TenantId(tenant_id))
    worker = Worker({INGEST: library.ingestion.ingest})
    worker.start(url)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await worker.stop(5)
    await database.close()


if __name__ == "__main__":
    _url, _folder, _tenant_id, _batch_s = sys.argv[1:]
    asyncio.run(_work(_url, Path(_folder), UUID(_tenant_id), float(_batch_s)))
