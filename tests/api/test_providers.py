"""Targets under the operator's eye: how each fares, its breaker by hand, its places, and help for slow ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway import PRICED, Gateway
from server import environment, running
from upstream import API_KEY, answers, fails, hangs, running_upstream
from upstream_server import Exchange

SLOW_S = 0.4
"""What the hedged target's p95 is made: far over what a call takes here, however busy the machine is."""


def models(url: str) -> dict[str, object]:
    def entry(alias: str, model: str, info: dict[str, Any] | None = None, **params: object) -> dict[str, object]:
        params = {"model": f"openai/{model}", "api_base": url, "api_key": API_KEY, **PRICED, **params}
        return {"model_name": alias, "litellm_params": params, "model_info": info or {}}

    hedged = {"x_wattos_hedge": True}
    return {
        "model_list": [
            entry("hedged", "whole-1", hedged),
            entry("hedged", "spare"),
            entry("hedged stream", "stream-1", hedged),
            entry("hedged stream", "spare-2"),
            entry("narrow", "narrow", max_parallel_requests=1),
            entry("forced", "forced-1"),
            entry("forced", "forced-2"),
            entry("failing", "failing"),
        ]
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path = tmp_path_factory.mktemp("providers")
    with running_upstream() as upstream:
        file = path / "models.yaml"
        file.write_text(json.dumps(models(upstream.url)))
        env = {"MODELS_CONFIG": str(file), "RETRY_MAX_ATTEMPTS": "1", "LOCAL_MODELS_ENABLED": "false"}
        with running(environment(path / "data", **env), path / "server.log") as server:
            yield Gateway(server, upstream)


async def slowly(exchange: Exchange) -> None:
    await asyncio.sleep(SLOW_S)
    await answers()(exchange)


def providers(gateway: Gateway) -> dict[str, Any]:
    with gateway.server.admin() as api:
        return {one["target"]: one for one in api.get("/api/v1/providers").raise_for_status().json()["data"]}


def settled(gateway: Gateway, target: str, n_running: int = 0) -> Any:
    """The target, once so many calls are under way."""
    deadline_s = time.monotonic() + 10
    while (found := providers(gateway)[target])["running"] != n_running:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.02)
    return found


def rows(gateway: Gateway, alias: str, n: int) -> list[Any]:
    """The latest in the ledger, once as many are there."""
    with gateway.server.admin() as api:
        tenants = api.get("/api/v1/tenants", params={"limit": 100}).json()["data"]
        tenant_id = next(one["id"] for one in tenants if one["slug"] == "one")
        deadline_s = time.monotonic() + 10
        while True:
            found = api.get("/api/v1/usage", params={"tenant_id": tenant_id, "limit": 100, "model": alias}).json()
            if len(found["data"]) >= n:
                return list(found["data"])
            assert time.monotonic() < deadline_s, found
            time.sleep(0.05)


@pytest.mark.requirement("RES-3")
@pytest.mark.parametrize(
    ("alias", "first", "second", "stream"),
    [("hedged", "whole-1", "spare", False), ("hedged stream", "stream-1", "spare-2", True)],
)
def test_a_slow_target_is_hedged(gateway: Gateway, alias: str, first: str, second: str, stream: bool) -> None:
    """The next one answers, the slow one's connection is closed, and both calls are in the ledger."""
    gateway.upstream.on(first, slowly)
    with ThreadPoolExecutor(10) as pool:
        for answer in pool.map(lambda _: gateway.ask(alias, stream=stream), range(20)):
            assert answer.headers["x-wattos-target"] == f"openai/{first}"
    gateway.upstream.on(first, answers())
    for _ in range(5):
        gateway.ask(alias, stream=stream).raise_for_status()
    gateway.upstream.on(first, hangs)
    answer = gateway.ask(alias, stream=stream)
    assert (answer.status_code, answer.headers["x-wattos-target"]) == (200, f"openai/{second}")
    if not stream:
        assert answer.headers["x-wattos-attempts"] == "2"
    gateway.upstream.wait_until(lambda: gateway.upstream.to(first)[-1].left_at_s)
    entered = rows(gateway, alias, 27)
    assert sorted((one["outcome"], one["target"]) for one in entered[:2]) == [
        ("cancelled", f"openai/{first}"),
        ("ok", f"openai/{second}"),
    ]
    assert all(one["cost_nusd"] > 0 for one in entered[:2])
    assert settled(gateway, f"openai/{first}")["running"] == 0


@pytest.mark.requirement("RES-3")
def test_a_target_takes_so_many_calls_and_no_more(gateway: Gateway) -> None:
    """503 soon after, with the time to come again; the place is free when the call that has it is over."""
    gateway.upstream.on("narrow", answers(hold_after=0))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.ask, "narrow")
        settled(gateway, "openai/narrow", 1)
        began_s = time.monotonic()
        refused = gateway.ask("narrow")
        assert time.monotonic() - began_s < 2
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert len(gateway.upstream.to("narrow")) == 1
        gateway.upstream.release()
        assert first.result().status_code == 200
    assert gateway.ask("narrow").status_code == 200
    shown = providers(gateway)["openai/narrow"]
    assert (shown["max_calls"], shown["last_minute"]["failed"], shown["breaker"]["state"]) == (1, 0, "closed")


@pytest.mark.requirement("RES-1")
def test_an_operator_spares_a_target_and_frees_it_again(gateway: Gateway) -> None:
    """`open`: nobody asks it; null: it is asked again; every word is in the audit log."""
    one = providers(gateway)["openai/forced-1"]
    assert (one["model"], one["transport"]) == ("forced", "direct")
    with gateway.server.admin() as api:
        told = api.put(f"/api/v1/providers/{one['id']}/breaker", json={"forced": "open"}).raise_for_status().json()
        assert (told["breaker"]["state"], told["breaker"]["forced"]) == ("open", "open")
        assert gateway.ask("forced").headers["x-wattos-target"] == "openai/forced-2"
        assert not gateway.upstream.to("forced-1")
        told = api.put(f"/api/v1/providers/{one['id']}/breaker", json={"forced": None}).raise_for_status().json()
        assert (told["breaker"]["state"], told["breaker"]["forced"]) == ("closed", None)
        assert gateway.ask("forced").headers["x-wattos-target"] == "openai/forced-1"
        events = api.get("/api/v1/audit-events", params={"action": "breaker.forced"}).json()["data"]
        assert [(e["subject"]["id"], e["after"]["forced"]) for e in events[:2]] == [
            (one["id"], None),
            (one["id"], "open"),
        ]
        for body in ({}, {"forced": "half_open"}, {"forced": "open", "more": 1}):
            assert api.put(f"/api/v1/providers/{one['id']}/breaker", json=body).status_code == 400


@pytest.mark.requirement("RES-1")
def test_a_breaker_that_opened_is_shown_and_reset(gateway: Gateway) -> None:
    """After five failures, with the last error; after a reset it is called at once."""
    gateway.upstream.on("failing", *[fails(500)] * 5, answers())
    for _ in range(5):
        assert gateway.ask("failing").status_code == 502
    assert gateway.ask("failing").json()["error"]["code"] == "circuit_open"
    shown = providers(gateway)["openai/failing"]
    assert (shown["breaker"]["state"], shown["breaker"]["forced"]) == ("open", None)
    assert 50 < shown["breaker"]["retry_after_s"] <= 60
    assert (shown["last_minute"]["failed"], shown["last_minute"]["error_rate"]) == (5, 1.0)
    assert shown["last_error"]["code"] == "upstream_unavailable"
    with gateway.server.admin() as api:
        told = api.post(f"/api/v1/providers/{shown['id']}/reset").raise_for_status().json()
        assert told["breaker"] == {"state": "closed", "forced": None, "failures": 0, "retry_after_s": None}
        assert gateway.ask("failing").status_code == 200
        (event, *_) = api.get("/api/v1/audit-events", params={"action": "breaker.reset"}).json()["data"]
        assert (event["subject"], event["before"]["state"]) == ({"kind": "provider", "id": shown["id"]}, "open")
        page = api.get("/api/v1/providers", params={"limit": 3}).json()
        rest = api.get("/api/v1/providers", params={"limit": 100, "after": page["last_id"]}).json()
        assert (len(page["data"]), page["has_more"], rest["has_more"]) == (3, True, False)
        assert len(page["data"] + rest["data"]) == len(providers(gateway))
        assert api.get("/api/v1/providers", params={"after": "prov_" + "0" * 32}).status_code == 404
