"""Answers that are given again: to whom, for how long, and what they cost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from anthropic_upstream import says_blocks, text
from cached_world import COST, PATHS, Cached, asking, body_of, path_of
from nasty_gateway import metric, seen_in
from upstream import answers, fails

pytestmark = pytest.mark.requirement("PERF-1")

WAIT_S = 10.0


WIRES = ("chat", "completions", "messages", "claude")
"""`messages`: Anthropic's wire over a target that chats; `claude`: over one that speaks it itself."""


@pytest.mark.parametrize("wire", WIRES)
def test_an_equal_request_gets_the_same_bytes_and_pays_nothing(cached: Cached, wire: str) -> None:
    """The target is asked once; the second answer says that it cost nothing, and what it saved."""
    cached.upstream.on("claude-one", says_blocks(text("Hello world")))
    body = body_of(wire)
    first, second = (cached.post(body, path_of(wire)) for _ in range(2))
    assert (first.status_code, first.headers["x-wattos-cache"]) == (200, "miss")
    assert "x-wattos-saved-nusd" not in first.headers
    assert (second.headers["x-wattos-cache"], second.headers["x-wattos-cost-nusd"]) == ("hit", "0")
    assert second.headers["x-wattos-saved-nusd"] == first.headers["x-wattos-cost-nusd"]
    assert second.headers["x-wattos-attempts"] == "0"
    assert second.headers["x-wattos-target"] == first.headers["x-wattos-target"]
    assert second.content == first.content
    assert cached.calls() == 1


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_is_given_again_as_a_stream(cached: Cached, wire: str) -> None:
    """Event by event the same; what it saved stands in the headers, which a target's own stream cannot know."""
    cached.upstream.on("gpt", answers("Hello world", chunks=5))
    cached.upstream.on("claude-one", says_blocks(text("Hello world")))
    body = body_of(wire, stream=True)
    first, second = (cached.post(body, path_of(wire)) for _ in range(2))
    assert first.headers["x-wattos-cache"] == "miss"
    assert (second.headers["x-wattos-cache"], second.headers["x-wattos-cost-nusd"]) == ("hit", "0")
    assert second.headers["content-type"] == first.headers["content-type"]
    assert int(second.headers["x-wattos-saved-nusd"]) > 0
    assert second.content == first.content
    assert len(second.content) > 300
    assert cached.calls() == 1


def test_usage_of_a_stream_is_shown_to_who_asks_whoever_asked_first(cached: Cached) -> None:
    """And there it says that it cost nothing now."""
    body, usage = asking(stream=True), {"stream_options": {"include_usage": True}}
    quiet = seen_in(cached.post(body))
    asked = seen_in(cached.post({**body, **usage}))
    again = seen_in(cached.post(body))
    assert quiet.payloads == again.payloads
    assert not any("usage" in chunk for chunk in quiet.bodies)
    *chunks, last = asked.bodies
    assert chunks == quiet.bodies
    assert last["usage"]["total_tokens"] == 10
    assert last["x_wattos"] == {"cost_nusd": 0, "saved_nusd": COST}
    assert asked.n_done == 1
    assert cached.calls() == 1
    first = seen_in(cached.post(asking(stream=True, **usage)))
    assert first.bodies[-1]["x_wattos"] == {"cost_nusd": COST}


def test_whole_answers_and_streams_are_kept_apart(cached: Cached) -> None:
    body = asking()
    assert cached.states(body, {**body, "stream": True}, body) == ["miss", "miss", "hit"]


def test_what_is_saved_is_counted(cached: Cached) -> None:
    """In dollars, by target."""
    before = metric(cached, "llm_saved_usd_total", target="openai/gpt")
    body = asking()
    cached.states(body, body, body)
    saved = metric(cached, "llm_saved_usd_total", target="openai/gpt") - before
    assert saved == pytest.approx(2 * COST / 1e9)


def test_a_hits_log_line_says_what_it_saved(cached: Cached) -> None:
    """Found by its id, as a call's line is."""
    body = asking(stream=True)
    cached.post(body)
    request_id = cached.post(body).headers["x-request-id"]

    def told() -> list[Any]:
        lines = [json.loads(line) for line in cached.server.log.read_text().splitlines() if line.startswith("{")]
        return [line["llm"] for line in lines if line.get("reqId") == request_id and "llm" in line]

    deadline = time.monotonic() + WAIT_S
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told() == [{"target": "openai/gpt", "attempts": 0, "outcome": "cached", "savedNusd": COST}]


def test_a_hit_is_in_the_ledger_as_cached_and_free(cached: Cached) -> None:
    """A stream's, too."""
    key = cached.server.make_key("ledger", scopes=["models:use", "usage:read"])
    body = asking(stream=True)
    assert cached.states(body, body, key=key) == ["miss", "hit"]
    deadline = time.monotonic() + WAIT_S
    with cached.http(key) as client:
        while len(calls := client.get("/api/v1/usage").raise_for_status().json()["data"]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [(c["outcome"], c["cost_nusd"], c["attempts"]) for c in calls] == [("cached", 0, 0), ("ok", COST, 1)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_is_not_refused_for_a_budget(cached: Cached, stream: bool) -> None:
    key = cached.server.make_key(f"spent-{stream}".lower())
    body = asking(stream=stream)
    with cached.http(key) as client, cached.server.admin() as admin:
        client.post(PATHS["chat"], json=body).raise_for_status().read()
        me = client.get("/api/v1/auth/me").raise_for_status().json()
        limit = {"scope": "key", "scope_id": me["key_id"], "period": "month", "amount_nusd": 1}
        admin.post("/api/v1/budgets", json={"tenant_id": me["tenant_id"], **limit}).raise_for_status()
        deadline = time.monotonic() + WAIT_S
        while client.post(PATHS["chat"], json=asking()).is_success:
            assert time.monotonic() < deadline, "the budget is not heard of"
            time.sleep(0.05)
        again = client.post(PATHS["chat"], json=body)
    assert (again.status_code, again.headers["x-wattos-cache"]) == (200, "hit")


def test_equal_is_what_means_the_same(cached: Cached) -> None:
    """Not spaces, not the order of keys, not how a letter is escaped, no null, nothing that only says whose it is."""
    body = asking(text=f"für {time.time_ns()}", temperature=0.5)
    turned = {name: body[name] for name in reversed(body)}
    turned["messages"] = [{name: one[name] for name in reversed(one)} for one in body["messages"]]
    whose = {"user": "u", "metadata": {"a": "b"}, "store": False, "safety_identifier": "s"}
    sent = [
        json.dumps(body, ensure_ascii=False),
        json.dumps(turned, indent=3),
        json.dumps({**whose, **body, "seed": None, "stream_options": None}),
    ]
    with cached.http() as client:
        found = [client.post(PATHS["chat"], content=one.encode()).headers["x-wattos-cache"] for one in sent]
    assert found == ["miss", "hit", "hit"]


def test_different_is_all_else(cached: Cached) -> None:
    """Parameters, unknown fields, the alias, fallbacks that may answer instead."""
    body = asking(temperature=0.5)
    others: list[dict[str, Any]] = [
        {**body, "temperature": 0.6},
        {**body, "seed": 1},
        {**body, "min_p": 0.1},
        {**body, "n": 2},
        {**body, "model": "free"},
        {**body, "fallbacks": ["free"]},
        {**body, "messages": [*body["messages"], {"role": "user", "content": "and?"}]},
    ]
    assert cached.states(body) == ["miss"]
    assert cached.states(*others) == ["miss"] * 7


def test_modes_read_and_write_alone(cached: Cached) -> None:
    """`write` asks the target and renews what is kept; `read` keeps nothing."""
    cached.upstream.on("gpt", *[answers(f"answer {n}") for n in range(1, 9)])
    body = asking()

    def said(mode: str) -> tuple[str, str]:
        response = cached.post({**body, "cache": {"mode": mode}})
        return response.headers["x-wattos-cache"], response.json()["choices"][0]["message"]["content"]

    assert said("read") == ("miss", "answer 1")
    assert said("read") == ("miss", "answer 2")
    assert said("write") == ("miss", "answer 3")
    assert said("read") == ("hit", "answer 3")
    assert said("write") == ("miss", "answer 4")
    assert said("readwrite") == ("hit", "answer 4")
    assert said("off") == ("off", "answer 5")


def test_an_answer_is_given_again_for_its_time_alone(cached: Cached) -> None:
    body = asking(cache={"mode": "readwrite", "ttl_s": 1})
    assert cached.states(body, body) == ["miss", "hit"]
    deadline = time.monotonic() + WAIT_S
    while cached.states({**body, "cache": {"mode": "read"}}) == ["hit"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_alias_may_ask_for_all_its_requests(cached: Cached) -> None:
    """On, for whom and how long; the request's wish goes before it, and off is off whoever says so."""
    plain = {name: value for name, value in asking("kept").items() if name != "cache"}
    assert cached.states(plain, plain) == ["miss", "hit"]
    assert cached.states({**plain, "cache": {"mode": "off"}}) == ["off"]
    assert cached.states({**plain, "cache": {"ttl_s": 5}}, {**plain, "cache": None}) == ["hit", "hit"]
    body = asking("never")
    assert cached.states(body, body) == ["off", "off"]
    assert cached.states(*[asking("brief", cache={})] * 2) == ["off", "off"]
    with cached.server.admin() as admin:
        assert admin.post("/api/v1/models/reload").raise_for_status().json()["warnings"] == []


def test_two_tenants_share_nothing_and_keys_of_one_do(cached: Cached) -> None:
    mine, ours, theirs = (cached.server.make_key(slug) for slug in ("shares", "shares", "shares-not"))
    for stream in (False, True):
        body = asking(stream=stream)
        found = [cached.states(body, key=key)[0] for key in (mine, ours, theirs, theirs)]
        assert found == ["miss", "hit", "miss", "hit"]


@pytest.mark.parametrize("by", ["request", "alias"])
def test_scope_user_keeps_answers_apart_within_a_tenant(cached: Cached, by: str) -> None:
    """By key where there is no user; what the tenant shares is another matter."""
    one, other = (cached.server.make_key("apart") for _ in range(2))
    body = asking("apart", cache={}) if by == "alias" else asking(cache={"mode": "readwrite", "scope": "user"})
    assert [cached.states(body, key=key)[0] for key in (one, other, one, other)] == ["miss", "miss", "hit", "hit"]
    shared = {**body, "cache": {"mode": "readwrite", "scope": "tenant"}}
    assert [cached.states(shared, key=key)[0] for key in (one, other)] == ["miss", "hit"]


def test_who_may_not_use_an_alias_gets_nothing_of_it(cached: Cached) -> None:
    body = asking()
    cached.states(body)
    limited = cached.server.make_key("one", models=["free"])
    assert cached.post(body, key=limited).status_code == 404


def test_another_configuration_does_not_give_the_answers_of_the_old_one(cached: Cached) -> None:
    """The alias stays, the model behind it is another; with the old one back, its answers are there again. A new key of
    the vendor's changes nothing."""
    body = asking()
    assert cached.states(body, body) == ["miss", "hit"]
    written = cached.models.read_text()
    made = json.loads(written)
    entry = next(one for one in made["model_list"] if one["model_name"] == "chat")

    def load() -> None:
        cached.models.write_text(json.dumps(made))
        with cached.server.admin() as admin:
            admin.post("/api/v1/models/reload").raise_for_status()

    try:
        entry["litellm_params"]["api_key"] = "another"
        load()
        assert cached.states(body) == ["hit"]
        entry["litellm_params"]["model"] = "openai/other"
        load()
        assert cached.states(body, body) == ["miss", "hit"]
        entry["litellm_params"] |= {"model": "openai/gpt", "temperature": 1}
        load()
        assert cached.states(body) == ["miss"]
    finally:
        cached.models.write_text(written)
        with cached.server.admin() as admin:
            admin.post("/api/v1/models/reload").raise_for_status()
    assert cached.states(body) == ["hit"]


def test_a_hit_needs_no_target(cached: Cached) -> None:
    """All of them may be down."""
    body, streamed = asking(), asking(stream=True)
    cached.states(body, streamed)
    cached.upstream.on("gpt", fails(503))
    assert cached.states(body, streamed) == ["hit", "hit"]


@pytest.mark.parametrize("path", PATHS.values())
def test_a_wish_that_is_none_is_refused(cached: Cached, path: str) -> None:
    for wish in ({"mode": "always"}, {"ttl_s": 0}, {"ttl_s": 1e9}, {"scope": "all"}, {"no-cache": True}, "on"):
        body = {**asking(), "max_tokens": 5, "prompt": "ping", "cache": wish}
        response = cached.post(body, path)
        assert response.status_code == 400, wish
        assert "cache" in response.text
