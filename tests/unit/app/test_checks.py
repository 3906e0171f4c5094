"""What a process says of the vendors' models, of its queue and of its disk, without asking any vendor."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from app.checks import DependencyAway, checks_of_server
from app.errors import UpstreamMisconfigured, UpstreamUnavailable
from app.llm.catalog import load_catalog
from app.llm.outcomes import LastOutcomes
from app.operations.health.service import HealthService
from app.runtime import Runtime
from app.settings import read_settings
from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import CircuitOpen
from plugins.contract.health import HealthCheck
from plugins.contract.nulls import NullMeter

T = TypeVar("T")

ONE, TWO = "openai/one", "openai/two"


class Breakers:
    """A guard whose breakers are in the states that a test says."""

    def __init__(self, **states: str) -> None:
        self._states = {f"openai/{name}": state for name, state in states.items()}

    async def call(self, name: str, attempt: Callable[[], Awaitable[T]], *, retry: bool) -> T:
        return await attempt()

    def states(self) -> Mapping[str, str]:
        return self._states


def checks(
    tmp_path: Path, guard: Breakers | None = None, outcomes: LastOutcomes | None = None, **env: str
) -> tuple[HealthCheck, ...]:
    """Those of a server with two aliases of one target each. Nothing of it is started."""
    models = [{"model_name": n, "litellm_params": {"model": f"openai/{n}", "api_key": "x"}} for n in ("one", "two")]
    file = tmp_path / "models.yaml"
    file.write_text(json.dumps({"model_list": models}))
    env = {"DATA_DIR": str(tmp_path), "ADMIN_KEY": "k" * 32, **env}
    runtime = Runtime(read_settings(env), env)
    capabilities = Capabilities(guard=guard or Breakers(), credentials_covered_for_s=300.0)
    return checks_of_server(runtime, load_catalog(file, env), capabilities, outcomes or LastOutcomes())


def targets(
    tmp_path: Path, guard: Breakers | None = None, outcomes: LastOutcomes | None = None
) -> tuple[HealthCheck, ...]:
    return tuple(check for check in checks(tmp_path, guard, outcomes) if check.is_target)


async def said(check: HealthCheck) -> str:
    """Empty when it is well."""
    try:
        await check.probe()
    except DependencyAway as away:
        return away.message
    return ""


@pytest.mark.requirement("OBS-6")
@pytest.mark.parametrize(("state", "is_well"), [("closed", True), ("open", False), ("half_open", False)])
async def test_a_target_is_as_well_as_its_breaker_says(tmp_path: Path, state: str, is_well: bool) -> None:
    """One failed call is the breaker's affair: as long as it is closed, calls are sent."""
    outcomes = LastOutcomes()
    outcomes.failed(ONE, UpstreamUnavailable("away"))
    one, _two = targets(tmp_path, Breakers(one=state), outcomes)
    assert (await said(one) == "") is is_well


@pytest.mark.requirement("OBS-6")
async def test_a_target_without_a_breaker_is_as_well_as_its_last_call(tmp_path: Path) -> None:
    """The resilience plugin is off: an answer is the proof that it is there, and no call is no proof that it is not."""
    outcomes = LastOutcomes()
    one, two = targets(tmp_path, outcomes=outcomes)
    assert (await said(one), await said(two)) == ("", "")
    outcomes.failed(ONE, UpstreamUnavailable("away"))
    assert (await said(one), await said(two)) == ("the last call failed", "")
    outcomes.answered(ONE)
    assert await said(one) == ""


@pytest.mark.requirement("OBS-6")
async def test_a_target_that_refuses_our_credential_is_not_well(tmp_path: Path) -> None:
    """No breaker opens for it, and all its calls fail: somebody has to look at the configuration."""
    outcomes = LastOutcomes()
    one, _two = targets(tmp_path, Breakers(one="closed"), outcomes)
    outcomes.failed(ONE, UpstreamMisconfigured("no such key"))
    assert (await said(one)).startswith("it refused the last call")


def test_a_call_that_was_not_sent_says_nothing() -> None:
    """The breaker refused it: what the last real call met still stands."""
    outcomes = LastOutcomes()
    outcomes.failed(ONE, CircuitOpen("spared"))
    assert outcomes.failure_of(ONE) is None


@pytest.mark.requirement("OBS-6")
async def test_all_targets_away_is_degraded_and_ready(tmp_path: Path) -> None:
    """Documents are still searched and quoted, and no restart of ours mends a vendor."""
    made = targets(tmp_path, Breakers(one="open", two="open"))
    health = HealthService(made, version="1", meter=NullMeter(), interval_s=60, timeout_s=1)
    async with health.watching():
        report = health.report()
    assert (report.status, report.is_ready) == ("degraded", True)
    assert (report.targets.total, report.targets.unhealthy) == (2, 2)


@pytest.mark.requirement("OBS-6")
async def test_outsiders_are_told_the_number_of_targets_alone(tmp_path: Path) -> None:
    """What models an operator uses, and by what names, is nobody else's business."""
    health = HealthService(
        targets(tmp_path, Breakers(one="open")), version="1", meter=NullMeter(), interval_s=60, timeout_s=1
    )
    async with health.watching():
        full, public = health.report(), health.report(for_operator=False)
    assert [check.name for check in full.checks] == [f"model {ONE}", f"model {TWO}"]
    assert public.checks == ()
    assert public.targets == full.targets
    assert public.status == full.status == "degraded"


@pytest.mark.requirement("OBS-6")
async def test_only_postgres_is_critical(tmp_path: Path) -> None:
    """Without anything else requests can be served, if not all of them."""
    assert [check.name for check in checks(tmp_path) if check.critical] == ["postgres"]


@pytest.mark.parametrize(("threshold", "is_well"), [("0", True), (str(1 << 50), False)])
async def test_a_full_disk_is_told(tmp_path: Path, threshold: str, is_well: bool) -> None:
    """Less than MIN_FREE_DISK_BYTES under DATA_DIR."""
    (disk,) = [check for check in checks(tmp_path, MIN_FREE_DISK_BYTES=threshold) if check.name == "disk"]
    assert (await said(disk) == "") is is_well
