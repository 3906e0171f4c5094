"""Budgets as their users see them: set, spent, refused by name, raised, and told of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from gateway import Gateway, running_gateway
from upstream import answers, fails
from webhook_receiver import running_receiver

COST = 7 * 150 + 3 * 600
"""Of seven tokens in and three out, at `PRICED`, in nano-dollars."""
ABOUT = 50_000
"""More than what a call with `max_tokens: 3` may cost by the estimate, and far less than one that says no bound."""


class Tenant:
    """A fresh one, with a user's key whose holder may see its usage, and one that may set budgets."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slug = f"b-{uuid4().hex[:8]}"
        self.key = gateway.server.make_key(self.slug, scopes=["models:use", "usage:read"])
        self.http = gateway.http(self.key)
        self.manager = gateway.http(gateway.server.make_key(self.slug, scopes=["limits:manage", "usage:read"]))
        me = self.http.get("/api/v1/auth/me").raise_for_status().json()
        self.id, self.key_id = me["tenant_id"], me["key_id"]

    def ask(self, model: str = "chat", key: str | None = None, **fields: object) -> httpx.Response:
        return self.gateway.ask(model, key=key or self.key, **{"max_tokens": 3, **fields})

    def budget(self, **fields: object) -> dict[str, Any]:
        """Of the key, a month, unless said otherwise; a whole tenant's is made by the administrator."""
        body = {"scope": "key", "scope_id": self.key_id, "period": "month", "amount_nusd": ABOUT, **fields}
        if body["scope"] == "tenant":
            with self.gateway.server.admin() as admin:
                made = admin.post("/api/v1/budgets", json=body)
        else:
            made = self.manager.post("/api/v1/budgets", json=body)
        assert made.status_code == 201, made.text
        time.sleep(0.3)  # heard of everywhere within a second, usually at once
        return dict(made.json())

    def get(self, budget: dict[str, Any]) -> dict[str, Any]:
        return dict(self.http.get(f"/api/v1/budgets/{budget['id']}").raise_for_status().json())

    def wait(self, budget: dict[str, Any], right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while not right(found := self.get(budget)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def close(self) -> None:
        self.http.close()
        self.manager.close()


@pytest.fixture
def tenant(gateway: Gateway) -> Iterator[Tenant]:
    gateway.upstream.on("gpt", answers(usage=(7, 3)))
    made = Tenant(gateway)
    yield made
    made.close()


def require_refused(answer: httpx.Response, budget: dict[str, Any]) -> None:
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
    assert budget["id"] in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers


def test_a_budget_is_spent_by_what_calls_cost(tenant: Tenant) -> None:
    """And what was reserved beyond that comes back."""
    budget = tenant.budget(amount_nusd=10**9)
    assert (budget["spent_nusd"], budget["reserved_nusd"], budget["remaining_nusd"]) == (0, 0, 10**9)
    for stream in (False, True):
        tenant.ask(stream=stream).raise_for_status()
    found = tenant.wait(budget, lambda one: one["spent_nusd"] == 2 * COST)
    assert found["reserved_nusd"] + found["remaining_nusd"] == 10**9 - 2 * COST
    assert tenant.wait(budget, lambda one: one["reserved_nusd"] == 0)["remaining_nusd"] == 10**9 - 2 * COST


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_budget_does_not_cover_is_refused_by_its_name(tenant: Tenant, stream: bool) -> None:
    """Nothing is sent, nothing entered, and clients do not try again."""
    budget = tenant.budget(amount_nusd=1000)
    require_refused(tenant.ask(stream=stream), budget)
    assert tenant.gateway.upstream.to("gpt") == []
    assert tenant.http.get("/api/v1/usage").json()["data"] == []
    found = tenant.get(budget)
    assert (found["spent_nusd"], found["remaining_nusd"]) == (0, 1000 - found["reserved_nusd"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "chat", "messages": [{"role": "user", "content": "ping"}]}),
        ("/v1/completions", {"model": "chat", "prompt": "ping"}),
        ("/v1/messages", {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 3}),
        ("/v1/embeddings", {"model": "vectors", "input": "ping " * 9999}),
    ],
    ids=["chat", "completions", "messages", "embeddings"],
)
def test_every_way_to_a_model_asks_the_budget(tenant: Tenant, path: str, body: object) -> None:
    tenant.budget(amount_nusd=1000)
    answer = tenant.gateway.post(body, path, key=tenant.key)
    assert answer.status_code == 429
    assert "insufficient_quota" in answer.text or answer.json()["type"] == "error"


def test_a_call_spends_every_budget_that_covers_it(tenant: Tenant) -> None:
    """Of its key, its model and its tenant; what others call spends none of it."""
    of_key = tenant.budget(amount_nusd=10**9)
    of_model = tenant.budget(scope="model", scope_id="chat", amount_nusd=10**9, period="day")
    of_other = tenant.budget(scope="model", scope_id="spare", amount_nusd=10**9)
    of_tenant = tenant.budget(scope="tenant", scope_id=tenant.id, amount_nusd=10**9, period="total")
    assert of_tenant["period_start"] is None
    tenant.ask().raise_for_status()
    tenant.ask(key=tenant.gateway.server.make_key(tenant.slug)).raise_for_status()
    tenant.wait(of_tenant, lambda one: one["spent_nusd"] == 2 * COST)
    spent = [tenant.get(one)["spent_nusd"] for one in (of_key, of_model, of_other, of_tenant)]
    assert spent == [COST, 2 * COST, 0, 2 * COST]
    listed = tenant.http.get("/api/v1/budgets").json()["data"]
    assert {one["id"]: one["spent_nusd"] for one in listed}[of_tenant["id"]] == 2 * COST


def test_a_users_budget_covers_all_their_keys(tenant: Tenant) -> None:
    with tenant.gateway.server.admin() as admin:
        body = {"email": "anna@b.example", "tenant_id": tenant.id, "role": "editor"}
        user = admin.post("/api/v1/users", json=body).raise_for_status().json()["id"]
        made = admin.post(
            "/api/v1/budgets", json={"scope": "user", "scope_id": user, "period": "day", "amount_nusd": ABOUT}
        )
    assert made.status_code == 201, made.text
    time.sleep(0.3)
    first, second = (tenant.gateway.server.make_key(tenant.slug, user_id=user) for _ in range(2))
    assert tenant.ask(key=first).status_code == 200
    refused = [tenant.ask(key=second, max_tokens=10**6), tenant.ask(key=first, max_tokens=10**6)]
    for answer in refused:
        require_refused(answer, made.json())
    assert tenant.ask(max_tokens=10**6).status_code == 200, "a key of nobody's"


def test_what_was_spent_before_there_was_a_budget_counts(tenant: Tenant) -> None:
    tenant.ask().raise_for_status()
    deadline = time.monotonic() + 5
    while not tenant.http.get("/api/v1/usage").json()["data"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert tenant.budget()["spent_nusd"] == COST
    assert tenant.budget(scope="model", scope_id="spare")["spent_nusd"] == 0


def test_a_price_that_nobody_knows_is_refused_unless_allowed(tenant: Tenant) -> None:
    """Money that cannot be counted cannot be kept to; a budget may say that it is not to be counted."""
    budget = tenant.budget()
    tenant.gateway.upstream.on("unpriced", answers())
    refused = tenant.ask("free")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "price_unknown")
    assert budget["id"] in refused.json()["error"]["message"]
    assert tenant.gateway.upstream.to("unpriced") == []
    changed = tenant.manager.patch(f"/api/v1/budgets/{budget['id']}", json={"allow_unpriced": True})
    assert changed.raise_for_status().json()["allow_unpriced"] is True
    deadline = time.monotonic() + 2
    while tenant.ask("free").status_code != 200:
        assert time.monotonic() < deadline
    assert tenant.get(budget)["spent_nusd"] == 0


def test_a_budget_that_is_raised_or_deleted_lets_calls_through_within_a_second(tenant: Tenant) -> None:
    budget = tenant.budget(amount_nusd=10)
    require_refused(tenant.ask(), budget)
    path = f"/api/v1/budgets/{budget['id']}"
    raised = tenant.manager.patch(path, json={"amount_nusd": ABOUT})
    assert raised.json().get("amount_nusd") == ABOUT, raised.text
    time.sleep(1)
    assert tenant.ask().status_code == 200
    require_refused(tenant.ask(max_tokens=10**6), budget)
    assert tenant.manager.delete(path).status_code == 204
    time.sleep(1)
    assert tenant.ask(max_tokens=10**6).status_code == 200
    assert tenant.http.get(path).status_code == 404


def test_an_absurd_request_is_refused_and_harms_no_other(tenant: Tenant) -> None:
    """What is more than the whole budget is not even asked for."""
    budget = tenant.budget(amount_nusd=10**9)
    require_refused(tenant.ask(max_tokens=10**23), budget)
    require_refused(tenant.ask(max_tokens=10**9, n=10**9), budget)
    assert tenant.ask().status_code == 200


def test_a_budget_that_is_lowered_takes_back_what_was_lent(tenant: Tenant) -> None:
    budget = tenant.budget(amount_nusd=10**12)
    tenant.ask(max_tokens=10**5).raise_for_status()  # so much is lent now
    lowered = tenant.manager.patch(f"/api/v1/budgets/{budget['id']}", json={"amount_nusd": 1})
    assert lowered.raise_for_status().json()["remaining_nusd"] == 0
    time.sleep(1)
    require_refused(tenant.ask(), budget)


def test_a_call_that_fails_costs_nothing(tenant: Tenant) -> None:
    tenant.gateway.upstream.on("gpt", fails(500))
    budget = tenant.budget()
    assert tenant.ask().status_code >= 500
    assert tenant.get(budget)["spent_nusd"] == 0
    tenant.gateway.upstream.on("gpt", answers(usage=(7, 3)))
    assert tenant.ask().status_code == 200, "nothing is held back"


def test_a_cached_answer_is_never_refused(tenant: Tenant) -> None:
    cache = {"mode": "readwrite", "ttl_s": 60}
    assert tenant.ask(cache=cache).status_code == 200
    budget = tenant.budget(amount_nusd=1)
    require_refused(tenant.ask(), budget)
    again = tenant.ask(cache=cache)
    assert (again.status_code, again.headers["x-wattos-cache"]) == (200, "hit")


def test_who_may_set_what(tenant: Tenant) -> None:
    """A tenant's own managers limit its users, keys and models; the tenant as a whole is limited by the platform."""
    body = {"scope": "tenant", "scope_id": tenant.id, "period": "month", "amount_nusd": 1}
    assert tenant.manager.post("/api/v1/budgets", json=body).status_code == 403
    of_tenant = tenant.budget(scope="tenant", scope_id=tenant.id, amount_nusd=10**9)
    path = f"/api/v1/budgets/{of_tenant['id']}"
    assert tenant.manager.patch(path, json={"amount_nusd": 10**10}).status_code == 403
    assert tenant.manager.delete(path).status_code == 403
    assert tenant.http.post("/api/v1/budgets", json={**body, "scope": "model", "scope_id": "x"}).status_code == 403
    with tenant.gateway.server.admin() as admin:
        assert admin.patch(path, json={"amount_nusd": 10**10}).json()["amount_nusd"] == 10**10
        audited = admin.get("/api/v1/audit-events", params={"tenant_id": tenant.id}).json()["data"]
    changes = [one for one in audited if one["action"] == "budget.updated"]
    assert (changes[0]["before"]["amount_nusd"], changes[0]["after"]["amount_nusd"]) == (10**9, 10**10)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"amount_nusd": -1}, 400, "invalid_request"),
        ({"amount_nusd": 10**18 + 1}, 400, "invalid_request"),
        ({"period": "week"}, 400, "invalid_request"),
        ({"scope": "galaxy"}, 400, "invalid_request"),
        ({"scope_id": "key_nonsense"}, 404, "not_found"),
        ({"scope_id": f"key_{uuid4().hex}"}, 404, "not_found"),
        ({"scope": "user", "scope_id": f"user_{uuid4().hex}"}, 404, "not_found"),
        ({"webhook_url": "http://169.254.169.254/latest"}, 400, "address_refused"),
        ({"surprise": 1}, 400, "invalid_request"),
    ],
)
def test_what_is_no_budget_is_refused(tenant: Tenant, fields: dict[str, object], status: int, code: str) -> None:
    body = {"scope": "key", "scope_id": tenant.key_id, "period": "month", "amount_nusd": 1, **fields}
    answer = tenant.manager.post("/api/v1/budgets", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_there_is_one_budget_of_a_kind(tenant: Tenant) -> None:
    tenant.budget()
    tenant.budget(period="day")
    body = {"scope": "key", "scope_id": tenant.key_id, "period": "day", "amount_nusd": 1}
    assert tenant.manager.post("/api/v1/budgets", json=body).status_code == 409


def test_warnings_come_signed_and_once(tmp_path: Path) -> None:
    """At 50, 80 and 100 %, whatever number of calls it takes; OpenAI's own client checks the signature."""
    with (
        running_receiver() as receiver,
        running_gateway(tmp_path, {"OUTBOUND_ALLOWED_HOSTS": "127.0.0.1"}) as gateway,
    ):
        receiver.fail_next(1)
        gateway.upstream.on("gpt", answers(usage=(7, 300)))  # more than was asked for: all of it can be spent
        cost = 7 * 150 + 300 * 600
        tenant = Tenant(gateway)
        budget = tenant.budget(amount_nusd=2 * cost, webhook_url=receiver.url)
        for spent_nusd in (cost, 2 * cost):
            tenant.ask(max_tokens=1).raise_for_status()
            tenant.wait(budget, lambda one, spent_nusd=spent_nusd: one["spent_nusd"] == spent_nusd)
        deadline = time.monotonic() + 30
        while len(receiver.taken) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        tenant.close()
        time.sleep(2.5)
        for one in receiver.taken:
            gateway.openai().webhooks.verify_signature(one.body, one.headers, secret=budget["webhook_secret"])
            with pytest.raises(openai.InvalidWebhookSignatureError):
                gateway.openai().webhooks.verify_signature(one.body, one.headers, secret=budget["webhook_secret"][::-1])
        gateway.close_clients()
        checked = [json.loads(one.body) for one in receiver.taken]
        assert sorted(one["data"]["percent"] for one in checked) == [50, 80, 100]
        assert {one["type"] for one in checked} == {"budget.threshold_reached"}
        assert {one["data"]["budget_id"] for one in checked} == {budget["id"]}
        assert len({one.headers["webhook-id"] for one in receiver.taken}) == len(checked)
        assert receiver.n_refused == 1, "what was refused came again"
        metrics = httpx.get(f"{gateway.server.url}/health/metrics").text
        told = [line for line in metrics.splitlines() if line.startswith("budget_alerts_total{")]
        assert 'budget_alerts_total{percent="50",webhook="sent"} 1.0' in told
