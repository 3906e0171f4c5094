"""Answers that are given again: to whom, for how long, what they cost, and which never are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from anthropic_upstream import says_blocks, text, tool_use
from cached_world import COST, PATHS, Cached, asking, running_cached
from nasty_gateway import metric, seen_in
from upstream import answers, fails

pytestmark = pytest.mark.requirement("PERF-1")

WAIT_S = 10.0
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    with running_cached(tmp_path_factory.mktemp("cached")) as gateway:
        yield gateway


@pytest.fixture
def gateway(started: Cached) -> Cached:
    started.upstream.reset()
    return started


def body_of(wire: str, *, stream: bool = False, **fields: object) -> dict[str, Any]:
    """A request of one of the three wires."""
    body = asking("claude" if wire == "claude" else "chat", stream=stream, max_tokens=50, **fields)
    if wire == "completions":
        body["prompt"] = body.pop("messages")[0]["content"]
    return body


def path_of(wire: str) -> str:
    return PATHS["messages" if wire == "claude" else wire]


WIRES = ("chat", "completions", "messages", "claude")
"""`messages`: Anthropic's wire over a target that chats; `claude`: over one that speaks it itself."""


@pytest.mark.parametrize("wire", WIRES)
def test_an_equal_request_gets_the_same_bytes_and_pays_nothing(gateway: Cached, wire: str) -> None:
    """The target is asked once; the second answer says that it cost nothing, and what it saved."""
    gateway.upstream.on("claude-one", says_blocks(text("Hello world")))
    body = body_of(wire)
    first, second = (gateway.post(body, path_of(wire)) for _ in range(2))
    assert (first.status_code, first.headers["x-wattos-cache"]) == (200, "miss")
    assert "x-wattos-saved-nusd" not in first.headers
    assert (second.headers["x-wattos-cache"], second.headers["x-wattos-cost-nusd"]) == ("hit", "0")
    assert second.headers["x-wattos-saved-nusd"] == first.headers["x-wattos-cost-nusd"]
    assert second.headers["x-wattos-attempts"] == "0"
    assert second.headers["x-wattos-target"] == first.headers["x-wattos-target"]
    assert second.content == first.content
    assert gateway.calls() == 1


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_is_given_again_as_a_stream(gateway: Cached, wire: str) -> None:
    """Event by event the same; what it saved stands in the headers, which a target's own stream cannot know."""
    gateway.upstream.on("gpt", answers("Hello world", chunks=5))
    gateway.upstream.on("claude-one", says_blocks(text("Hello world")))
    body = body_of(wire, stream=True)
    first, second = (gateway.post(body, path_of(wire)) for _ in range(2))
    assert first.headers["x-wattos-cache"] == "miss"
    assert (second.headers["x-wattos-cache"], second.headers["x-wattos-cost-nusd"]) == ("hit", "0")
    assert second.headers["content-type"] == first.headers["content-type"]
    assert int(second.headers["x-wattos-saved-nusd"]) > 0
    assert second.content == first.content
    assert len(second.content) > 300
    assert gateway.calls() == 1


def test_usage_of_a_stream_is_shown_to_who_asks_whoever_asked_first(gateway: Cached) -> None:
    """And there it says that it cost nothing now."""
    body, usage = asking(stream=True), {"stream_options": {"include_usage": True}}
    quiet = seen_in(gateway.post(body))
    asked = seen_in(gateway.post({**body, **usage}))
    again = seen_in(gateway.post(body))
    assert quiet.payloads == again.payloads
    assert not any("usage" in chunk for chunk in quiet.bodies)
    *chunks, last = asked.bodies
    assert chunks == quiet.bodies
    assert last["usage"]["total_tokens"] == 10
    assert last["x_wattos"] == {"cost_nusd": 0, "saved_nusd": COST}
    assert asked.n_done == 1
    assert gateway.calls() == 1
    first = seen_in(gateway.post(asking(stream=True, **usage)))
    assert first.bodies[-1]["x_wattos"] == {"cost_nusd": COST}


def test_whole_answers_and_streams_are_kept_apart(gateway: Cached) -> None:
    body = asking()
    assert gateway.states(body, {**body, "stream": True}, body) == ["miss", "miss", "hit"]


def test_what_is_saved_is_counted(gateway: Cached) -> None:
    """In dollars, by target."""
    before = metric(gateway, "llm_saved_usd_total", target="openai/gpt")
    body = asking()
    gateway.states(body, body, body)
    saved = metric(gateway, "llm_saved_usd_total", target="openai/gpt") - before
    assert saved == pytest.approx(2 * COST / 1e9)


def test_a_hits_log_line_says_what_it_saved(gateway: Cached) -> None:
    """Found by its id, as a call's line is."""
    body = asking(stream=True)
    gateway.post(body)
    request_id = gateway.post(body).headers["x-request-id"]

    def told() -> list[Any]:
        lines = [json.loads(line) for line in gateway.server.log.read_text().splitlines() if line.startswith("{")]
        return [line["llm"] for line in lines if line.get("reqId") == request_id and "llm" in line]

    deadline = time.monotonic() + WAIT_S
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told() == [{"target": "openai/gpt", "attempts": 0, "outcome": "cached", "savedNusd": COST}]


def test_a_hit_is_in_the_ledger_as_cached_and_free(gateway: Cached) -> None:
    """A stream's, too."""
    key = gateway.server.make_key("ledger", scopes=["models:use", "usage:read"])
    body = asking(stream=True)
    assert gateway.states(body, body, key=key) == ["miss", "hit"]
    deadline = time.monotonic() + WAIT_S
    with gateway.http(key) as client:
        while len(calls := client.get("/api/v1/usage").raise_for_status().json()["data"]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [(c["outcome"], c["cost_nusd"], c["attempts"]) for c in calls] == [("cached", 0, 0), ("ok", COST, 1)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_is_not_refused_for_a_budget(gateway: Cached, stream: bool) -> None:
    key = gateway.server.make_key(f"spent-{stream}".lower())
    body = asking(stream=stream)
    with gateway.http(key) as client, gateway.server.admin() as admin:
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


def test_equal_is_what_means_the_same(gateway: Cached) -> None:
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
    with gateway.http() as client:
        found = [client.post(PATHS["chat"], content=one.encode()).headers["x-wattos-cache"] for one in sent]
    assert found == ["miss", "hit", "hit"]


def test_different_is_all_else(gateway: Cached) -> None:
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
    assert gateway.states(body) == ["miss"]
    assert gateway.states(*others) == ["miss"] * 7


def test_modes_read_and_write_alone(gateway: Cached) -> None:
    """`write` asks the target and renews what is kept; `read` keeps nothing."""
    gateway.upstream.on("gpt", *[answers(f"answer {n}") for n in range(1, 9)])
    body = asking()

    def said(mode: str) -> tuple[str, str]:
        response = gateway.post({**body, "cache": {"mode": mode}})
        return response.headers["x-wattos-cache"], response.json()["choices"][0]["message"]["content"]

    assert said("read") == ("miss", "answer 1")
    assert said("read") == ("miss", "answer 2")
    assert said("write") == ("miss", "answer 3")
    assert said("read") == ("hit", "answer 3")
    assert said("write") == ("miss", "answer 4")
    assert said("readwrite") == ("hit", "answer 4")
    assert said("off") == ("off", "answer 5")


def test_an_answer_is_given_again_for_its_time_alone(gateway: Cached) -> None:
    body = asking(cache={"mode": "readwrite", "ttl_s": 1})
    assert gateway.states(body, body) == ["miss", "hit"]
    deadline = time.monotonic() + WAIT_S
    while gateway.states({**body, "cache": {"mode": "read"}}) == ["hit"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_alias_may_ask_for_all_its_requests(gateway: Cached) -> None:
    """On, for whom and how long; the request's wish goes before it, and off is off whoever says so."""
    plain = {name: value for name, value in asking("kept").items() if name != "cache"}
    assert gateway.states(plain, plain) == ["miss", "hit"]
    assert gateway.states({**plain, "cache": {"mode": "off"}}) == ["off"]
    assert gateway.states({**plain, "cache": {"ttl_s": 5}}, {**plain, "cache": None}) == ["hit", "hit"]
    body = asking("never")
    assert gateway.states(body, body) == ["off", "off"]
    assert gateway.states(*[asking("brief", cache={})] * 2) == ["off", "off"]
    with gateway.server.admin() as admin:
        assert admin.post("/api/v1/models/reload").raise_for_status().json()["warnings"] == []


def test_two_tenants_share_nothing_and_keys_of_one_do(gateway: Cached) -> None:
    mine, ours, theirs = (gateway.server.make_key(slug) for slug in ("shares", "shares", "shares-not"))
    for stream in (False, True):
        body = asking(stream=stream)
        found = [gateway.states(body, key=key)[0] for key in (mine, ours, theirs, theirs)]
        assert found == ["miss", "hit", "miss", "hit"]


@pytest.mark.parametrize("by", ["request", "alias"])
def test_scope_user_keeps_answers_apart_within_a_tenant(gateway: Cached, by: str) -> None:
    """By key where there is no user; what the tenant shares is another matter."""
    one, other = (gateway.server.make_key("apart") for _ in range(2))
    body = asking("apart", cache={}) if by == "alias" else asking(cache={"mode": "readwrite", "scope": "user"})
    assert [gateway.states(body, key=key)[0] for key in (one, other, one, other)] == ["miss", "miss", "hit", "hit"]
    shared = {**body, "cache": {"mode": "readwrite", "scope": "tenant"}}
    assert [gateway.states(shared, key=key)[0] for key in (one, other)] == ["miss", "hit"]


def test_who_may_not_use_an_alias_gets_nothing_of_it(gateway: Cached) -> None:
    body = asking()
    gateway.states(body)
    limited = gateway.server.make_key("one", models=["free"])
    assert gateway.post(body, key=limited).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_are_not_whole_and_plain_are_never_kept(gateway: Cached, stream: bool) -> None:
    """Errors, calls of tools, what a filter cut off."""
    for model, script in (
        ("failed", fails(400)),
        ("tools", answers("let me see", message={"tool_calls": [{"index": 0, **CALL}]})),
        ("function", answers("let me see", message={"function_call": {"name": "weather", "arguments": "{}"}})),
        ("filtered", answers("I", finish="content_filter")),
    ):
        gateway.upstream.on("gpt", script)
        body = asking(stream=stream)
        n_before = gateway.calls()
        responses = [gateway.post(body) for _ in range(2)]
        assert {r.headers.get("x-wattos-cache", "none") for r in responses} <= {"miss", "none"}, model
        assert gateway.calls() == n_before + 2, model


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_came_to_its_length_is_kept(gateway: Cached, stream: bool) -> None:
    """An equal request asked for the same length."""
    gateway.upstream.on("gpt", answers("Hello wor", finish="length"))
    body = asking(stream=stream)
    assert gateway.states(body, body) == ["miss", "hit"]


@pytest.mark.parametrize("stream", [False, True])
def test_on_anthropics_wire_tools_are_never_kept_either(gateway: Cached, stream: bool) -> None:
    """Calls of them in answers, their results in requests."""
    gateway.upstream.on("claude-one", says_blocks(tool_use("toolu_1", "weather"), stop_reason="tool_use"))
    body = body_of("claude", stream=stream)
    assert gateway.states(body, body, path=PATHS["messages"]) == ["miss", "miss"]
    gateway.upstream.on("claude-one", says_blocks(text("Sunny")))
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body["messages"] += turns
    assert gateway.states(body, body, path=PATHS["messages"]) == ["off", "off"]


def test_requests_with_results_of_tools_are_never_answered_again(gateway: Cached) -> None:
    """What a tool found an hour ago is no answer."""
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    body = asking()
    body["messages"] += turns
    assert gateway.states(body, body) == ["off", "off"]


def test_a_stream_that_broke_off_is_not_kept(gateway: Cached) -> None:
    gateway.upstream.on("gpt", answers("Hello world", die_after=2, delay_s=0.05))
    body = asking(stream=True)
    assert seen_in(gateway.post(body)).errors
    assert gateway.states(body) == ["miss"]


def test_a_stream_that_its_client_left_is_not_kept(gateway: Cached) -> None:
    gateway.upstream.on("gpt", answers("Hello world", hold_after=2))
    body = asking(stream=True)
    with gateway.http() as client, client.stream("POST", PATHS["chat"], json=body) as response:
        next(response.iter_lines())
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s)
    gateway.upstream.on("gpt", answers("Hello again"))
    assert gateway.states(body, body) == ["miss", "hit"]


def test_a_stream_of_two_targets_is_not_kept(gateway: Cached) -> None:
    """One broke off and another went on: no model has said that."""
    gateway.upstream.on("seam-1", answers("Hello world", die_after=2, delay_s=0.05))
    gateway.upstream.on("seam-2", answers(" and good night"))
    body = asking("seamed", stream=True)
    assert seen_in(gateway.post(body)).is_done
    assert gateway.states(body) == ["miss"]


def test_another_configuration_does_not_give_the_answers_of_the_old_one(gateway: Cached) -> None:
    """The alias stays, the model behind it is another; with the old one back, its answers are there again. A new key of
    the vendor's changes nothing."""
    body = asking()
    assert gateway.states(body, body) == ["miss", "hit"]
    written = gateway.models.read_text()
    made = json.loads(written)
    entry = next(one for one in made["model_list"] if one["model_name"] == "chat")

    def load() -> None:
        gateway.models.write_text(json.dumps(made))
        with gateway.server.admin() as admin:
            admin.post("/api/v1/models/reload").raise_for_status()

    try:
        entry["litellm_params"]["api_key"] = "another"
        load()
        assert gateway.states(body) == ["hit"]
        entry["litellm_params"]["model"] = "openai/other"
        load()
        assert gateway.states(body, body) == ["miss", "hit"]
        entry["litellm_params"] |= {"model": "openai/gpt", "temperature": 1}
        load()
        assert gateway.states(body) == ["miss"]
    finally:
        gateway.models.write_text(written)
        with gateway.server.admin() as admin:
            admin.post("/api/v1/models/reload").raise_for_status()
    assert gateway.states(body) == ["hit"]


def test_a_hit_needs_no_target(gateway: Cached) -> None:
    """All of them may be down."""
    body, streamed = asking(), asking(stream=True)
    gateway.states(body, streamed)
    gateway.upstream.on("gpt", fails(503))
    assert gateway.states(body, streamed) == ["hit", "hit"]


@pytest.mark.parametrize("path", PATHS.values())
def test_a_wish_that_is_none_is_refused(gateway: Cached, path: str) -> None:
    for wish in ({"mode": "always"}, {"ttl_s": 0}, {"ttl_s": 1e9}, {"scope": "all"}, {"no-cache": True}, "on"):
        body = {**asking(), "max_tokens": 5, "prompt": "ping", "cache": wish}
        response = gateway.post(body, path)
        assert response.status_code == 400, wish
        assert "cache" in response.text
