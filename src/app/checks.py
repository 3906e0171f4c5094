"""What this process depends on, and how to ask it. docs/HEALTH.md says the same in words."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import ClassVar

from app.database import engine
from app.database.engine import Role
from app.errors import UpstreamMisconfigured
from app.jobs import store as jobs
from app.jobs.rescue import STALLED_AFTER_S
from app.llm.catalog import Catalog
from app.llm.outcomes import LastOutcomes
from app.local_models import timed
from app.local_models.embedder import unavailable
from app.local_models.supervisor import Phase
from app.runtime import Runtime
from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import WattosError
from plugins.contract.health import HealthCheck
from plugins.contract.ports import Guard


class DependencyAway(WattosError):
    """Why a dependency is not well, in words that anyone may read. Never an answer to a request."""

    code: ClassVar[str] = "dependency_away"


def checks_of_worker(runtime: Runtime) -> tuple[HealthCheck, ...]:
    """What a worker needs: it takes no requests, so only the database is critical."""
    checks = [_postgres(runtime, 0.0), *_beside(runtime)]
    return tuple(checks)


def _beside(runtime: Runtime) -> list[HealthCheck]:
    """What a worker needs beside the database, and a server too."""
    checks = [_job_queue(runtime), _disk(runtime)]
    if runtime.settings.local_models_enabled:
        checks.append(_embedder(runtime))
    return checks


def checks_of_server(
    runtime: Runtime, catalog: Catalog, capabilities: Capabilities, outcomes: LastOutcomes
) -> tuple[HealthCheck, ...]:
    """All that a server depends on. Vendors are never called for it: what the last calls met is known."""
    database = _postgres(runtime, capabilities.credentials_covered_for_s)
    checks = [database, *_beside(runtime), *_targets(catalog, capabilities.guard, outcomes)]
    if runtime.settings.local_models_enabled:
        checks.append(_model_server(runtime))
    return tuple(checks)


def _postgres(runtime: Runtime, covered_for_s: float) -> HealthCheck:
    """While it is away, known credentials are still taken for a while."""
    return HealthCheck(
        name="postgres",
        critical=True,
        probe=runtime.database.ping,
        covered_for_s=covered_for_s,
        breaker=engine.BREAKER,
        meanwhile="known keys are taken, calls are kept in the journal, models answer without documents",
    )


def _job_queue(runtime: Runtime) -> HealthCheck:
    async def probe() -> None:
        async with runtime.database.role(Role.JOBS) as session:
            state = await jobs.state(session, stalled_after_s=STALLED_AFTER_S)
        if state.n_live_workers == 0:
            raise DependencyAway("no worker is alive: documents are not ingested")
        if state.n_stalled > 0:
            raise DependencyAway("jobs were left by their worker, and nobody goes on with them")
        if state.longest_wait_s > runtime.settings.max_job_wait_s:
            raise DependencyAway(f"a job has been waiting for {state.longest_wait_s:.0f} s")

    return HealthCheck(name="job queue", critical=False, probe=probe)


def _disk(runtime: Runtime) -> HealthCheck:
    async def probe() -> None:
        usage = await asyncio.to_thread(shutil.disk_usage, runtime.settings.data_path)
        if usage.free < runtime.settings.min_free_disk_bytes:
            raise DependencyAway("less free space than MIN_FREE_DISK_BYTES")

    return HealthCheck(name="disk", critical=False, probe=probe)


def _embedder(runtime: Runtime) -> HealthCheck:
    async def probe() -> None:
        state = runtime.embedder.state
        if state.phase is not Phase.READY:
            raise unavailable(state)

    meanwhile = "documents are searched by their words, and new ones wait"
    return HealthCheck(name="embedder", critical=False, probe=probe, breaker=timed.BREAKER, meanwhile=meanwhile)


def _model_server(runtime: Runtime) -> HealthCheck:
    async def probe() -> None:
        runtime.model_server.endpoint()

    return HealthCheck(name="local model", critical=False, probe=probe)


def _targets(catalog: Catalog, guard: Guard, outcomes: LastOutcomes) -> Iterator[HealthCheck]:
    """One check a target that can be away: the models of this process have checks of their own."""
    targets = {target.id: target for target in catalog.targets()}
    for target in targets.values():
        if target.transport in {"bridge", "direct", "anthropic"} and not target.is_local:
            yield _target(target.id, guard, outcomes)


def _target(target_id: str, guard: Guard, outcomes: LastOutcomes) -> HealthCheck:
    """Not critical, and all of them together are not either: documents are answered, and a restart mends no vendor."""

    async def probe() -> None:
        breaker, failure = guard.states().get(target_id), outcomes.failure_of(target_id)
        if breaker in {"open", "half_open"}:
            raise DependencyAway("its calls failed: it is spared, and then tried with one call")
        if failure == UpstreamMisconfigured.code:  # says nothing about its being there, so no breaker opens
            raise DependencyAway("it refused the last call: look at its key, address and model name")
        if breaker is None and failure is not None:  # no resilience plugin: there is nothing but the last call
            raise DependencyAway("the last call failed")

    return HealthCheck(name=f"model {target_id}", critical=False, probe=probe, is_target=True)
