"""Routing as clients and operators see it: on a real server with real-looking configurations."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import RunningServer, environment, running
from upstream import API_KEY, Upstream, answers, fails, running_upstream

WAIT_S = 10.0

MESSAGES = [{"role": "user", "content": "ping"}]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.01)


class Routed:
    """One server whose configuration the test may rewrite."""

    def __init__(self, server: RunningServer, upstream: Upstream, config: Path) -> None:
        self.server = server
        self.upstream = upstream
        self.config = config
        self.key = server.make_key("one")

    def write(self, entries: list[dict[str, Any]], **sections: object) -> None:
        self.config.write_text(json.dumps({"model_list": entries, **sections}))

    def entry(self, alias: str, model: str, **params: object) -> dict[str, Any]:
        given = {"model": f"openai/{model}", "api_base": self.upstream.url, "api_key": API_KEY, **params}
        return {"model_name": alias, "litellm_params": given}

    def reload(self) -> httpx.Response:
        with self.server.admin() as api:
            return api.post("/api/v1/models/reload")

    def ask(self, model: str, key: str | None = None, **fields: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.key}"}
        body = {"model": model, "messages": MESSAGES, **fields}
        return httpx.post(f"{self.server.url}/v1/chat/completions", json=body, headers=headers, timeout=30)

    def target_of(self, model: str, **fields: object) -> str:
        return self.ask(model, **fields).raise_for_status().headers["x-wattos-target"]


@pytest.fixture(scope="module")
def module_routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    tmp_path = tmp_path_factory.mktemp("routed")
    config = tmp_path / "models.yaml"
    config.write_text("{}")
    env = environment(
        tmp_path / "data", MODELS_CONFIG=str(config), LOCAL_MODELS_ENABLED="false", RETRY_MAX_ATTEMPTS="1"
    )
    with running_upstream() as upstream, running(env, tmp_path / "server.log") as server:
        yield Routed(server, upstream, config)


@pytest.fixture
def routed(module_routed: Routed) -> Routed:
    module_routed.upstream.reset()
    return module_routed


def test_reload_is_in_force_at_once(routed: Routed) -> None:
    """By the API: new aliases answer, old ones are gone, and what is not read is told."""
    routed.write([routed.entry("a", "one")], general_settings={"master_key": "x"})
    loaded = routed.reload()
    assert loaded.status_code == 200
    assert loaded.json()["aliases"] == ["a", "wattos-extractive", "wattos-embed"]
    assert "general_settings" in loaded.json()["warnings"][0]
    assert routed.target_of("a") == "openai/one"
    routed.write([routed.entry("b", "two")])
    routed.reload().raise_for_status()
    assert routed.target_of("b") == "openai/two"
    assert routed.ask("a").status_code == 404


def test_broken_file_keeps_the_old_one_and_says_why(routed: Routed) -> None:
    """422 with file, place and remedy; calls go on."""
    routed.write([routed.entry("a", "one")])
    routed.reload().raise_for_status()
    for broken, said in (("model_list: [", "line 1"), ("model_list: [{model_name: a}]", "litellm_params")):
        routed.config.write_text(broken)
        refused = routed.reload()
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_models_config")
        assert said in refused.json()["detail"]
        assert routed.target_of("a") == "openai/one"


def test_reload_is_the_administrators(routed: Routed) -> None:
    """A tenant's key may not."""
    headers = {"authorization": f"Bearer {routed.key}"}
    assert httpx.post(f"{routed.server.url}/api/v1/models/reload", headers=headers).status_code == 403


def test_reload_drops_no_request(routed: Routed) -> None:
    """A stream that began with the old file ends as it began, while new calls go by the new one; SIGHUP is enough."""
    routed.write([routed.entry("a", "old")])
    routed.reload().raise_for_status()
    routed.upstream.on("old", answers("Hello world", chunks=2, hold_after=1))
    lines: list[str] = []
    headers = {"authorization": f"Bearer {routed.key}"}
    body = {"model": "a", "messages": MESSAGES, "stream": True}

    def read() -> None:
        with httpx.stream(
            "POST", f"{routed.server.url}/v1/chat/completions", json=body, headers=headers, timeout=30
        ) as response:
            lines.extend(response.iter_lines())

    reading = threading.Thread(target=read)
    reading.start()
    wait_until(lambda: any("Hello" in line for line in lines))
    routed.write([routed.entry("a", "new")])
    os.kill(routed.server.process.pid, signal.SIGHUP)
    wait_until(lambda: routed.target_of("a") == "openai/new")
    routed.upstream.release()
    reading.join(10)
    assert "world" in "".join(lines)
    assert lines[-2] == "data: [DONE]"


def test_too_long_and_refused_requests_have_fallbacks_of_their_own(routed: Routed) -> None:
    """And no other request reaches those."""
    routed.write(
        [routed.entry("a", "small"), routed.entry("big", "big"), routed.entry("lenient", "lenient")],
        litellm_settings={
            "context_window_fallbacks": [{"a": ["big"]}],
            "content_policy_fallbacks": [{"a": ["lenient"]}],
        },
    )
    routed.reload().raise_for_status()
    routed.upstream.on("small", fails(400, "too long", code="context_length_exceeded"))
    assert routed.target_of("a") == "openai/big"
    assert routed.target_of("a", stream=True) == "openai/big"
    routed.upstream.on("small", fails(400, "no", code="content_policy_violation"))
    assert routed.target_of("a") == "openai/lenient"
    routed.upstream.on("small", fails(503))
    assert routed.ask("a").status_code == 502
    routed.upstream.on("small", fails(400, "too long", code="context_length_exceeded"))
    routed.upstream.on("big", fails(400, "still too long", code="context_length_exceeded"))
    refused = routed.ask("a")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert [one["target"] for one in refused.json()["error"]["attempts"]] == ["openai/small", "openai/big"]


def test_request_brings_its_own_fallbacks(routed: Routed) -> None:
    """By name, or as LiteLLM's clients send them; they never reach a vendor; none of another key's."""
    routed.write(
        [routed.entry("a", "down"), routed.entry("b", "b"), routed.entry("c", "c")],
        router_settings={"fallbacks": [{"a": ["b"]}]},
    )
    routed.reload().raise_for_status()
    routed.upstream.on("down", fails(503))
    assert routed.target_of("a") == "openai/b"
    assert routed.target_of("a", fallbacks=["c"]) == "openai/c"
    assert routed.target_of("a", fallbacks=[{"model": "c"}]) == "openai/c"
    assert routed.ask("a", disable_fallbacks=True).status_code == 502
    assert not {"fallbacks", "disable_fallbacks"} & {name for r in routed.upstream.requests for name in r.body}
    limited = routed.server.make_key("one", models=["a"])
    assert routed.ask("a", limited, fallbacks=["c"]).status_code == 404
    wrong = routed.ask("a", fallbacks="c")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "fallbacks")


def test_wildcard_serves_every_model_of_a_vendor(routed: Routed) -> None:
    """The vendor gets the bare name, the client its own; a key's allowed models hold."""
    routed.write([routed.entry("vendor/*", "*")])
    routed.reload().raise_for_status()
    answer = routed.ask("vendor/gpt-9").raise_for_status()
    assert (answer.headers["x-wattos-target"], answer.json()["model"]) == ("openai/gpt-9", "vendor/gpt-9")
    assert routed.upstream.requests[-1].body["model"] == "gpt-9"
    assert routed.ask("other/gpt-9").status_code == 404
    headers = {"authorization": f"Bearer {routed.key}"}
    listed = httpx.get(f"{routed.server.url}/v1/models", headers=headers).json()["data"]
    assert "vendor/*" in {model["id"] for model in listed}
    assert httpx.get(f"{routed.server.url}/v1/models/vendor/gpt-9", headers=headers).status_code == 200
    limited = routed.server.make_key("one", models=["vendor/gpt-8"])
    assert routed.ask("vendor/gpt-9", limited).status_code == 404
    assert routed.ask("vendor/gpt-8", limited).status_code == 200


def test_deployments_share_the_load_and_stand_in_for_each_other(routed: Routed) -> None:
    """A weighted shuffle over three, of which one is down: every call is answered."""
    entries = [routed.entry("a", name, weight=1) for name in ("x", "y", "down")]
    routed.write(entries)
    routed.reload().raise_for_status()
    routed.upstream.on("down", fails(503))
    seen = {routed.target_of("a") for _ in range(40)}
    assert seen == {"openai/x", "openai/y"}
