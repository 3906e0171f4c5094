"""Metrics of a real server after real traffic."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from gateway import Gateway, running_gateway
from server import ROOT
from upstream import answers, fails

CONTRACT = {
    *("http_requests_total", "http_request_duration_ms", "llm_calls_total", "llm_tokens_total", "llm_cost_usd_total"),
    *("llm_call_duration_ms", "db_queries_total", "db_query_duration_ms", "cache_operations_total"),
    *("circuit_breaker_state", "circuit_breaker_state_changes_total", "retry_attempts_total", "retry_outcomes_total"),
    *("health_check_duration_ms", "health_status", "rate_limit_decisions_total"),
    *("gateway_overhead_ms", "event_loop_lag_seconds", "db_pool_connections", "job_queue_depth", "wattos_build_info"),
}
"""OBS-4, OBS-5, and what the gateway says of itself."""

PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(ROOT / ".tools"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"LOCAL_MODELS_ENABLED": "false", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2", "RETRY_MAX_ATTEMPTS": "3"}
    with running_gateway(tmp_path_factory.mktemp("metrics"), env) as gateway:
        upstream = gateway.upstream
        upstream.on("gpt", answers("pong", usage=(1000, 500)))
        upstream.on("spare", answers("pong"))
        upstream.on("doomed-1", fails(503))
        upstream.on("doomed-2", fails(503))
        for _ in range(3):
            gateway.ask("chat", cache={"mode": "readwrite"})
            gateway.ask("backed")
            gateway.ask("doomed")
            list(gateway.openai().chat.completions.create(
                model="chat", messages=[{"role": "user", "content": "x"}], stream=True
            ))  # fmt: skip
        yield gateway


def scrape(gateway: Gateway) -> str:
    return httpx.get(f"{gateway.server.url}/health/metrics").raise_for_status().text


def value(text: str, series: str) -> float:
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", text, flags=re.M)
    return float(found)


def families(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", text, flags=re.M))


@pytest.mark.requirement("OBS-4")
def test_the_contracts_metrics_are_there(gateway: Gateway) -> None:
    """By their exact names."""
    assert families(scrape(gateway)) >= CONTRACT


@pytest.mark.requirement("OBS-4")
def test_calls_tokens_and_cost_are_counted_exactly(gateway: Gateway) -> None:
    """Four calls of 1,000 and 500 tokens at $0.15 and $0.60 a million: one that was cached cost nothing."""
    text = scrape(gateway)
    target = 'target="openai/gpt"'
    assert value(text, f'llm_calls_total{{outcome="ok",{target}}}') == 4
    assert value(text, f'llm_tokens_total{{kind="input",{target}}}') == 4000
    assert value(text, f'llm_tokens_total{{kind="output",{target}}}') == 2000
    assert value(text, f"llm_cost_usd_total{{{target}}}") == pytest.approx(4 * (1000 * 0.15 + 500 * 0.6) / 1e6)
    assert value(text, f"llm_call_duration_ms_count{{{target}}}") == 4


@pytest.mark.requirement("OBS-4")
def test_cache_breaker_and_retries_are_counted(gateway: Gateway) -> None:
    """Look-ups by result, each breaker's state, attempts after the first and how they ended."""
    text = scrape(gateway)
    assert value(text, 'cache_operations_total{operation="get",result="hit"}') == 2
    assert value(text, 'cache_operations_total{operation="get_or_set",result="produced"}') == 1
    assert value(text, 'circuit_breaker_state{dependency="openai/doomed-1",state="open"}') == 1
    assert value(text, 'circuit_breaker_state{dependency="openai/gpt",state="closed"}') == 1
    assert value(text, 'circuit_breaker_state_changes_total{dependency="openai/doomed-1",state="open"}') == 1
    assert value(text, 'retry_attempts_total{dependency="openai/doomed-2",outcome="failed"}') >= 1


@pytest.mark.requirement("OBS-4")
def test_our_own_share_of_a_call_is_told_apart(gateway: Gateway) -> None:
    """`gateway_overhead_ms`: total minus waiting for the target. A slow target makes calls longer, not the overhead."""
    before = scrape(gateway)
    gateway.upstream.on("gpt", answers("pong", delay_s=0.3, chunks=3))
    list(gateway.openai().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "slow"}], stream=True
    ))  # fmt: skip
    after = scrape(gateway)
    labels = 'route="/v1/chat/completions"'
    spent_ms = value(after, f"gateway_overhead_ms_sum{{{labels}}}") - value(
        before, f"gateway_overhead_ms_sum{{{labels}}}"
    )
    counted = value(after, f"gateway_overhead_ms_count{{{labels}}}") - value(
        before, f"gateway_overhead_ms_count{{{labels}}}"
    )
    assert counted == 1
    # The first token takes 300 ms; a loaded machine may add some of its own, but never that much.
    assert 0 < spent_ms < 300


@pytest.mark.requirement("OBS-4")
def test_every_series_is_in_the_page_and_has_no_other_labels(gateway: Gateway) -> None:
    """`docs/metrics.md` names all that a scrape holds, with the labels it has."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]+) \|", page, flags=re.M))
    text = scrape(gateway)
    for family in families(text):
        if family.startswith("process_"):
            continue
        labels = set(re.findall(r"`(\w+)`", listed[family]))
        for found in re.findall(rf"^{family}(?:_bucket|_count|_sum)?\{{([^}}]*)\}}", text, flags=re.M):
            assert set(re.findall(r'(\w+)="', found)) - {"le"} == labels, family


@pytest.mark.requirement("OBS-4")
def test_strangers_make_no_new_series(gateway: Gateway) -> None:
    """Random paths, methods, models and keys: all of them fall into series that are there."""

    def attack(n: int) -> None:
        with gateway.http() as client:
            client.get(f"/v1/files/file_{n:032x}")
            client.get(f"/nowhere/{n}")
            client.get(f"/v1/models/model-{n}")
            client.request(f"METHOD{n}", "/v1/models")
            client.post("/v1/chat/completions", json={"model": f"m{n}", "messages": [{"role": "user", "content": "x"}]})
            client.get("/v1/models", headers={"authorization": f"Bearer sk-wattos-{n}"})

    attack(0)
    n_before = len(scrape(gateway).splitlines())
    for n in range(1, 100):
        attack(n)
    assert len(scrape(gateway).splitlines()) == n_before


@pytest.mark.requirement("OBS-4")
def test_prometheus_own_tool_finds_nothing_but_the_contracts_names(gateway: Gateway) -> None:
    """`promtool check metrics` on a real scrape; the contract's `_ms` names are the only remarks."""
    if PROMTOOL is None:
        pytest.skip("promtool is not installed: make tools")
    run = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=scrape(gateway), capture_output=True, text=True, timeout=30
    )
    remarks = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    allowed = {"db_query_duration_ms", "http_request_duration_ms", "llm_call_duration_ms"}
    allowed |= {"health_check_duration_ms", "gateway_overhead_ms"}
    assert {line.split()[0] for line in remarks} <= allowed, remarks
