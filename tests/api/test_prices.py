"""What models cost a tenant: listed with its origin, set by the platform's administrator, never changed afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway
from upstream import answers

IN, OUT = 7, 3
USUAL = IN * 150 + OUT * 600
"""Nano-dollars, at the gateway's `PRICED`."""
OWN = IN * 1_000 + OUT * 2_000
NUMBERS = {"input_nusd_per_mtok": 1_000_000_000, "output_nusd_per_mtok": 2_000_000_000}


class Tenant:
    """A fresh one, with a key for calls and for what they cost."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slug = f"p-{uuid4().hex[:8]}"
        self.key = gateway.server.make_key(self.slug, scopes=["models:use", "usage:read"])
        self.http = gateway.http(self.key)
        with gateway.server.admin() as api:
            tenants = api.get("/api/v1/tenants", params={"limit": 100}).json()["data"]
        self.id = next(one["id"] for one in tenants if one["slug"] == self.slug)

    def set(self, target: str = "openai/gpt", **fields: object) -> httpx.Response:
        with self.gateway.server.admin() as api:
            return api.post("/api/v1/prices", json={"tenant_id": self.id, "target": target, **NUMBERS, **fields})

    def prices(self) -> dict[str, dict[str, Any]]:
        rows = self.http.get("/api/v1/prices").raise_for_status().json()["data"]
        return {row["target"]: row for row in rows}

    def cost_nusd(self, model: str = "chat", **fields: object) -> int:
        """Of a call of seven tokens in and three out, as the ledger has it."""
        self.gateway.upstream.on("gpt", answers(usage=(IN, OUT)))
        n_before = len(self.rows())
        self.gateway.ask(model, key=self.key, **fields).raise_for_status()
        deadline = time.monotonic() + 5
        while len(rows := self.rows()) == n_before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return int(rows[0]["cost_nusd"])

    def rows(self) -> list[dict[str, Any]]:
        return list(self.http.get("/api/v1/usage", params={"limit": 100}).raise_for_status().json()["data"])


@pytest.fixture
def tenant(gateway: Gateway) -> Iterator[Tenant]:
    made = Tenant(gateway)
    yield made
    made.http.close()


def test_each_price_says_where_it_is_from(tenant: Tenant) -> None:
    """MODELS_CONFIG, the price file, this machine, or nobody knows."""
    prices = tenant.prices()
    chat, unknown = prices["openai/gpt"], prices["openai/unpriced"]
    assert (chat["model"], chat["source"], chat["since"]) == ("chat", "models_config", None)
    assert (chat["input_nusd_per_mtok"], chat["output_nusd_per_mtok"]) == (150_000_000, 600_000_000)
    assert (unknown["source"], unknown["input_nusd_per_mtok"]) == (None, None)
    assert prices["openai/gpt-4o-mini"]["source"] == "price_file"
    assert prices["openai/gpt-4o-mini"]["cached_nusd_per_mtok"] == 75_000_000
    assert prices["wattos-extractive"]["source"] == "built_in"


def test_a_call_costs_what_its_tenant_pays_and_what_is_past_stays(tenant: Tenant) -> None:
    """At once where it was set; whole and streamed. Other tenants pay what they did."""
    assert tenant.cost_nusd() == USUAL
    tenant.set().raise_for_status()
    assert tenant.cost_nusd() == OWN
    assert tenant.cost_nusd(stream=True) == OWN
    assert [row["cost_nusd"] for row in tenant.rows()] == [OWN, OWN, USUAL]
    other = Tenant(tenant.gateway)
    assert other.cost_nusd() == USUAL
    other.http.close()
    tenant.set(input_nusd_per_mtok=None, output_nusd_per_mtok=None).raise_for_status()
    assert tenant.cost_nusd() == USUAL


def test_the_list_shows_the_tenants_own_price_and_since_when(tenant: Tenant) -> None:
    made = tenant.set(cached_nusd_per_mtok=5).raise_for_status().json()
    shown = tenant.prices()["openai/gpt"]
    assert (shown["source"], shown["since"], shown["cached_nusd_per_mtok"]) == ("tenant", made["valid_from"], 5)
    assert shown["model"] == "chat"


def test_a_price_to_come_is_in_the_history_and_not_in_force(tenant: Tenant) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = [tenant.set(valid_from=tomorrow).json(), tenant.set("openai/spare").json()]
    assert tenant.prices()["openai/gpt"]["source"] == "models_config"
    history = tenant.http.get("/api/v1/prices/history").json()
    assert history["data"] == made[::-1]
    assert datetime.fromisoformat(made[0]["valid_from"]) == datetime.fromisoformat(tomorrow)
    first = tenant.http.get("/api/v1/prices/history", params={"limit": 1}).json()
    rest = tenant.http.get("/api/v1/prices/history", params={"after": first["last_id"]}).json()
    assert (first["has_more"], rest["data"]) == (True, made[:1])
    of_target = tenant.http.get("/api/v1/prices/history", params={"target": "openai/gpt"}).json()
    assert of_target["data"] == made[:1]


def test_a_key_sees_the_prices_of_the_models_that_it_may_use(tenant: Tenant) -> None:
    key = tenant.gateway.server.make_key(tenant.slug, scopes=["usage:read"], models=["chat"])
    with tenant.gateway.http(key) as http:
        assert [one["target"] for one in http.get("/api/v1/prices").json()["data"]] == ["openai/gpt"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"target": "openai/gtp"}, "target"),
        ({"valid_from": "2020-01-01T00:00:00Z"}, "valid_from"),
        ({"valid_from": "2100-01-01T00:00:00"}, "valid_from"),
        ({"input_nusd_per_mtok": -1}, "input_nusd_per_mtok"),
        ({"input_nusd_per_mtok": 0.5}, "input_nusd_per_mtok"),
        ({"input_nusd_per_mtok": None}, "input_nusd_per_mtok"),
        ({"output_nusd_per_mtok": 10**15 + 1}, "output_nusd_per_mtok"),
        ({"colour": "blue"}, "colour"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_price_that_cannot_be_is_refused(tenant: Tenant, fields: dict[str, Any], param: str) -> None:
    """And says which field it was; nothing is set."""
    refused = tenant.set(**{"target": "openai/gpt", **fields})
    assert refused.status_code == 400
    assert param in refused.text
    assert tenant.http.get("/api/v1/prices/history").json()["data"] == []


def test_only_the_platforms_administrator_sets_prices(tenant: Tenant) -> None:
    """A tenant does not decide what it pays; and it is in its audit log who did."""
    refused = tenant.http.post("/api/v1/prices", json={"target": "openai/gpt", **NUMBERS})
    assert refused.status_code == 403
    made = tenant.set().json()
    with tenant.gateway.server.admin() as api:
        events = api.get("/api/v1/audit-events", params={"tenant_id": tenant.id, "action": "price.set"}).json()["data"]
        unknown = api.post(
            "/api/v1/prices", json={"tenant_id": f"ten_{uuid4().hex}", "target": "openai/gpt", **NUMBERS}
        )
        nobodys = api.post("/api/v1/prices", json={"target": "openai/gpt", **NUMBERS})
    assert [event["after"]["target"] for event in events if event["action"] == "price.set"] == ["openai/gpt"]
    assert events[0]["after"]["input_nusd_per_mtok"] == NUMBERS["input_nusd_per_mtok"]
    assert made["id"].startswith("price_")
    assert (unknown.status_code, nobodys.status_code) == (404, 400)
