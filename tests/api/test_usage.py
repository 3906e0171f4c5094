"""What is entered of calls, as one reads it: each call one row, with what it used and cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway
from upstream import answers, fails

UNDER_BOTH_TRANSPORTS = True
COST = 7 * 150 + 3 * 600
"""Of seven tokens in and three out, at `PRICED`, in nano-dollars."""


class Tenant:
    """A fresh one, so that its ledger is empty."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.key = gateway.server.make_key(f"u-{uuid4().hex[:8]}", scopes=["models:use", "usage:read"])
        self.http = gateway.http(self.key)

    def ask(self, model: str, **fields: object) -> httpx.Response:
        return self.gateway.ask(model, key=self.key, **fields)

    def rows(self, n_wanted: int) -> list[dict[str, Any]]:
        """Newest first, once there are as many."""
        deadline = time.monotonic() + 5
        while True:
            rows = self.http.get("/api/v1/usage", params={"limit": 100}).raise_for_status().json()["data"]
            if len(rows) >= n_wanted or time.monotonic() > deadline:
                assert len(rows) == n_wanted
                return list(rows)
            time.sleep(0.02)

    def summary(self, **query: str) -> list[dict[str, Any]]:
        return list(self.http.get("/api/v1/usage/summary", params=query).raise_for_status().json()["data"])


@pytest.fixture
def tenant(gateway: Gateway) -> Iterator[Tenant]:
    made = Tenant(gateway)
    yield made
    made.http.close()


def test_an_answered_call_is_one_row_with_all_it_used(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", answers(usage=(7, 3)))
    tenant.ask("chat").raise_for_status()
    (row,) = tenant.rows(1)
    assert (row["model"], row["endpoint"], row["outcome"], row["error"]) == ("chat", "chat/completions", "ok", None)
    assert (row["input_tokens"], row["output_tokens"], row["cost_nusd"]) == (7, 3, COST)
    assert (row["target"], row["attempts"], row["is_estimate"]) == ("openai/gpt", 1, False)
    assert row["tenant_id"].startswith("ten_")
    assert row["key_id"].startswith("key_")
    assert row["user_id"] is None
    assert row["latency_ms"] > 0
    assert abs((datetime.now(UTC) - datetime.fromisoformat(row["time"])).total_seconds()) < 30


def test_a_stream_is_entered_with_its_first_token(tenant: Tenant) -> None:
    """Also where the client did not ask for the usage."""
    tenant.gateway.upstream.on("gpt", answers(usage=(7, 3)))
    assert "[DONE]" in tenant.ask("chat", stream=True).text
    (row,) = tenant.rows(1)
    assert (row["outcome"], row["input_tokens"], row["cost_nusd"]) == ("ok", 7, COST)
    assert 0 < row["first_token_ms"] <= row["latency_ms"]


def test_tokens_that_the_target_does_not_tell_are_estimates(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", answers("one two three", usage=None))
    assert tenant.ask("chat", stream=True).status_code == 200
    (row,) = tenant.rows(1)
    assert row["is_estimate"]
    assert row["output_tokens"] == 3


def test_a_client_that_leaves_is_billed_for_what_it_got(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", answers("one two three four", chunks=4, hold_after=2))
    body = {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "stream": True}
    with tenant.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_bytes())
    (row,) = tenant.rows(1)
    assert (row["outcome"], row["is_estimate"]) == ("cancelled", True)
    assert row["cost_nusd"] > 0


def test_a_call_that_fails_costs_nothing_and_says_why(tenant: Tenant) -> None:
    """With several targets one row too."""
    for model in ("doomed-1", "doomed-2"):
        tenant.gateway.upstream.on(model, fails(400))
    assert tenant.ask("doomed").status_code == 400
    (row,) = tenant.rows(1)
    assert (row["outcome"], row["cost_nusd"], row["input_tokens"]) == ("error", 0, None)
    assert row["error"]
    assert row["attempts"] >= 1


def test_the_one_that_answered_is_the_target_however_many_were_asked(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("spare", answers(usage=(7, 3)))
    tenant.ask("backed").raise_for_status()
    (row,) = tenant.rows(1)
    assert (row["target"], row["outcome"], row["cost_nusd"]) == ("openai/spare", "ok", COST)
    assert row["attempts"] >= 2


def test_an_unknown_price_is_null_and_counted(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("unpriced", answers(usage=(7, 3)))
    tenant.ask("free").raise_for_status()
    (row,) = tenant.rows(1)
    assert row["cost_nusd"] is None
    (group,) = tenant.summary()
    assert (group["calls"], group["unpriced"], group["cost_nusd"], group["input_tokens"]) == (1, 1, 0, 7)


def test_an_answer_from_the_cache_is_entered_and_free(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", answers(usage=(7, 3)))
    for _ in range(2):
        tenant.ask("chat", cache={"mode": "readwrite", "ttl_s": 60}).raise_for_status()
    newest, oldest = tenant.rows(2)
    assert (newest["outcome"], newest["cost_nusd"], newest["attempts"]) == ("cached", 0, 0)
    assert (oldest["outcome"], oldest["cost_nusd"]) == ("ok", COST)
    (group,) = tenant.summary()
    assert (group["calls"], group["errors"], group["cost_nusd"]) == (2, 0, COST)


def test_summaries_add_up_by_whatever_is_asked(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", answers(usage=(7, 3)))
    tenant.gateway.upstream.on("spare", answers(usage=(7, 3)))
    for model in ("chat", "chat", "spare"):
        tenant.ask(model).raise_for_status()
    rows = tenant.rows(3)
    by_model = {group["model"]: (group["calls"], group["cost_nusd"]) for group in tenant.summary()}
    assert by_model == {"chat": (2, 2 * COST), "spare": (1, COST)}
    (group,) = tenant.summary(group_by="tenant,user,key,day")
    today = datetime.now(UTC).date().isoformat()
    assert (group["calls"], group["day"], group["user_id"]) == (3, today, None)
    assert (group["tenant_id"], group["key_id"]) == (rows[0]["tenant_id"], rows[0]["key_id"])
    assert {group["target"] for group in tenant.summary(group_by="target")} == {"openai/gpt", "openai/spare"}
    assert tenant.summary(since="2020-01-01", until="2020-02-01") == []


def test_pages_are_stable_while_calls_come_in(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", answers(usage=(7, 3)))
    for _ in range(3):
        tenant.ask("chat").raise_for_status()
    everything = [row["id"] for row in tenant.rows(3)]
    first = tenant.http.get("/api/v1/usage", params={"limit": 2}).json()
    tenant.ask("chat").raise_for_status()
    tenant.rows(4)
    rest = tenant.http.get("/api/v1/usage", params={"limit": 2, "after": first["last_id"]}).json()
    assert [row["id"] for row in (*first["data"], *rest["data"])] == everything
    assert (first["has_more"], rest["has_more"]) == (True, False)


@pytest.mark.parametrize(
    "query",
    [{"group_by": "colour"}, {"group_by": "day,day"}, {"group_by": ""}, {"since": "2026-02-01", "until": "2026-01-01"}],
    ids=["unknown", "twice", "empty", "backwards"],
)
def test_a_summary_that_cannot_be_made_is_refused(tenant: Tenant, query: dict[str, str]) -> None:
    assert tenant.http.get("/api/v1/usage/summary", params=query).status_code == 400


def test_an_ordinary_key_does_not_see_what_the_tenant_spends(gateway: Gateway) -> None:
    with gateway.http() as http:
        assert http.get("/api/v1/usage").status_code == 403
