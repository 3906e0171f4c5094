"""What operators are shown of targets, and what their word does, without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from app.audit.model import COMMAND_LINE, PLATFORM_CHAIN, Actor, Change
from app.database.errors import DatabaseUnavailable
from app.errors import NotConfigured, NotFound, UpstreamUnavailable
from app.llm.catalog import load_catalog
from app.llm.outcomes import LastError, LastOutcomes
from app.llm.routing import Router
from app.llm.traffic import Quantiles
from app.operations.providers.model import provider_id
from app.operations.providers.schemas import ProviderOut
from app.operations.providers.service import ProvidersService
from plugins.contract.breakers import BreakerStatus, Forced
from plugins.contract.ports import Breakers

NOW = datetime(2026, 11, 26, 20, 0, tzinfo=UTC)


class Switches:
    """Breakers that do as they are told, and remember it."""

    def __init__(self, **statuses: BreakerStatus) -> None:
        self.known = {f"openai/{name}": status for name, status in statuses.items()}

    def statuses(self) -> Mapping[str, BreakerStatus]:
        return self.known

    def reset(self, name: str) -> None:
        self.known[name] = BreakerStatus(state="closed")

    def force(self, name: str, state: Forced | None) -> None:
        self.known[name] = BreakerStatus(state="open" if state == "open" else "closed", forced=state)


class Trail:
    """An audit log in memory; it may be away."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.is_away = False

    async def note(self, tenant_id: UUID, actor: Actor, change: Change) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        assert (tenant_id, actor) == (PLATFORM_CHAIN, COMMAND_LINE)
        self.changes.append(change)


class World:
    def __init__(self, tmp_path: Path, breakers: Breakers | None) -> None:
        def entry(alias: str, model: str, **params: object) -> dict[str, object]:
            return {"model_name": alias, "litellm_params": {"model": model, "api_key": "x", **params}}

        models = [
            entry("two", "openai/two", max_parallel_requests=7),
            entry("one", "openai/one"),
            entry("any/*", "openai/*"),
        ]
        file = tmp_path / "models.yaml"
        file.write_text(json.dumps({"model_list": models}))
        self.router = Router(load_catalog(file, {}))
        self.outcomes = LastOutcomes(lambda: NOW)
        self.trail = Trail()
        self.service = ProvidersService(
            router=self.router,
            outcomes=self.outcomes,
            breakers=breakers,
            audit_log=self.trail,  # type: ignore[arg-type]  # its one method that is used
        )

    def shown(self, name: str) -> ProviderOut:
        found = [ProviderOut.of(one) for one in self.service.page(limit=100, after=None).items]
        return next(one for one in found if one.target == name)


def test_targets_are_in_the_order_of_the_configuration_page_by_page(tmp_path: Path) -> None:
    """Of a wildcard's deployment one that stands for its many; the last id of a page leads to the next."""
    service = World(tmp_path, Switches()).service
    first = service.page(limit=2, after=None)
    assert [one.target.known_as for one in first.items] == ["openai/two", "openai/one"]
    assert first.has_more
    rest = service.page(limit=100, after=first.items[-1].id)
    assert [one.target.known_as for one in rest.items] == ["wattos-extractive", "wattos-embed", "openai/*"]
    assert not rest.has_more
    with pytest.raises(NotFound):
        service.page(limit=2, after=provider_id("gone"))


def test_what_nobody_called_is_closed_and_has_no_times(tmp_path: Path) -> None:
    """Nulls, not zeros: an error rate of nothing is none."""
    one = World(tmp_path, Switches()).shown("openai/one")
    assert (one.breaker.state, one.breaker.failures, one.running) == ("closed", 0, 0)
    assert (one.last_minute.calls, one.last_minute.error_rate) == (0, None)
    assert (one.first_token_ms, one.total_ms, one.last_error) == (None, None, None)


def test_how_a_target_fares_is_shown(tmp_path: Path) -> None:
    """Its breaker, its calls under way, errors of the last minute, times, and the last error with its time."""
    status = BreakerStatus(state="open", n_failures=5, retry_after_s=41.27)
    world = World(tmp_path, Switches(two=status))
    traffic = world.router.traffic
    for failed in (True, False, False):
        traffic.begin("openai/two")
        traffic.end("openai/two", None if failed else 100.0, total_ms=300.0, has_failed=failed)
    traffic.begin("openai/two")
    world.outcomes.failed("openai/two", UpstreamUnavailable("away"))
    world.outcomes.answered("openai/two")
    two = world.shown("openai/two")
    assert (two.model, two.transport, two.max_calls) == ("two", "direct", 7)
    assert (two.breaker.state, two.breaker.failures, two.breaker.retry_after_s) == ("open", 5, 41.3)
    assert (two.last_minute.calls, two.last_minute.failed, two.last_minute.error_rate) == (3, 1, 0.3333)
    assert (two.running, two.first_token_ms) == (1, Quantiles(p50=100, p95=100, p99=100))
    assert two.total_ms == Quantiles(p50=300, p95=300, p99=300)
    assert two.last_error == LastError(code="upstream_unavailable", at=NOW)


async def test_an_operators_word_is_done_and_written_down(tmp_path: Path) -> None:
    """Forced, freed and reset, each with what was before."""
    world = World(tmp_path, Switches())
    two = provider_id("openai/two")
    assert (await world.service.force(COMMAND_LINE, two, "open")).breaker == BreakerStatus(state="open", forced="open")
    assert (await world.service.reset(COMMAND_LINE, two)).breaker == BreakerStatus(state="closed")
    assert [(change.action, change.before, change.after) for change in world.trail.changes] == [
        ("breaker.forced", {"forced": None}, {"target": "openai/two", "forced": "open"}),
        (
            "breaker.reset",
            {"state": "open", "forced": "open"},
            {"target": "openai/two", "state": "closed", "forced": None},
        ),
    ]


async def test_nothing_is_done_without_a_trace(tmp_path: Path) -> None:
    """While the audit log cannot be written, or for what is not there."""
    switches = Switches()
    world = World(tmp_path, switches)
    world.trail.is_away = True
    with pytest.raises(DatabaseUnavailable):
        await world.service.force(COMMAND_LINE, provider_id("openai/two"), "open")
    with pytest.raises(NotFound):
        await world.service.reset(COMMAND_LINE, provider_id("gone"))
    assert switches.known == {}


async def test_without_the_plugin_breakers_are_off(tmp_path: Path) -> None:
    """Shown as such; there is nothing to force or to reset."""
    world = World(tmp_path, None)
    assert world.shown("openai/one").breaker.state == "off"
    with pytest.raises(NotConfigured):
        await world.service.reset(COMMAND_LINE, provider_id("openai/one"))
    with pytest.raises(NotConfigured):
        await world.service.force(COMMAND_LINE, provider_id("openai/one"), None)
    assert world.trail.changes == []
