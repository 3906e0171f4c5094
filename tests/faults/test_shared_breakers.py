"""Two whole servers on one PostgreSQL and one Valkey: what one finds out about a target, the other one knows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import PRICED
from postgres import Cluster
from server import RunningServer, environment, running
from upstream import API_KEY, Upstream, answers, fails, running_upstream
from valkey_server import running_valkey

pytestmark = pytest.mark.requirement("RES-1")

THRESHOLD = 5
RESET_S = 10
"""Long enough for the other one to hear of it on a machine that is busy."""
HEARD_WITHIN_S = 8.0
"""They tell each other once a second; the rest is for a machine that is busy."""
TARGETS = ("failing", "tearing", "spared")


class Replica:
    """One server, as its callers and its operator see it."""

    def __init__(self, server: RunningServer, key: str) -> None:
        self.server = server
        self._key = key

    def ask(self, model: str, **fields: object) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "ping"}], **fields}
        headers = {"authorization": f"Bearer {self._key}"}
        return httpx.post(f"{self.server.url}/v1/chat/completions", json=body, headers=headers, timeout=30)

    def provider(self, model: str) -> dict[str, Any]:
        with self.server.admin() as api:
            shown = api.get("/api/v1/providers").raise_for_status().json()["data"]
        return next(one for one in shown if one["target"] == f"openai/{model}")

    def state(self, model: str) -> str:
        return str(self.provider(model)["breaker"]["state"])

    def force(self, model: str, forced: str | None) -> None:
        path = f"/api/v1/providers/{self.provider(model)['id']}/breaker"
        with self.server.admin() as api:
            api.put(path, json={"forced": forced}).raise_for_status()


class Pair:
    def __init__(self, one: Replica, two: Replica, upstream: Upstream) -> None:
        self.one = one
        self.two = two
        self.upstream = upstream


@pytest.fixture(scope="module")
def pair(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    database = asyncio.run(cluster.create_database())
    folder = tmp_path_factory.mktemp("shared-breakers")
    with running_upstream() as upstream, running_valkey() as valkey:
        params = {"api_base": upstream.url, "api_key": API_KEY, **PRICED}
        models = [{"model_name": n, "litellm_params": {"model": f"openai/{n}", **params}} for n in TARGETS]
        file = folder / "models.yaml"
        file.write_text(json.dumps({"model_list": models}))

        def env(data: Path) -> dict[str, str]:
            return environment(
                data,
                DATABASE_URL=database,
                VALKEY_URL=valkey.url,
                MODELS_CONFIG=str(file),
                LOCAL_MODELS_ENABLED="false",
                WORKER_ENABLED="false",
                RETRY_MAX_ATTEMPTS="1",
                CIRCUIT_BREAKER_FAILURE_THRESHOLD=str(THRESHOLD),
                CIRCUIT_BREAKER_RESET_TIMEOUT=str(RESET_S * 1000),
            )

        with (
            running(env(folder / "1"), folder / "1.log") as first,
            running(env(folder / "2"), folder / "2.log") as second,
        ):
            key = first.make_key("a")
            yield Pair(Replica(first, key), Replica(second, key), upstream)


def eventually(condition: Callable[[], bool], what: str, within_s: float = HEARD_WITHIN_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}"
        time.sleep(0.1)


def open_by_failures(pair: Pair) -> str:
    pair.upstream.on("failing", *[fails(500)] * THRESHOLD, answers())
    for _ in range(THRESHOLD):
        assert pair.one.ask("failing").status_code == 502
    return "failing"


def open_by_broken_streams(pair: Pair) -> str:
    pair.upstream.on("tearing", *[answers(die_after=2)] * THRESHOLD, answers())
    for _ in range(THRESHOLD):
        answer = pair.one.ask("tearing", stream=True)
        assert (answer.status_code, "[DONE]" in answer.text) == (200, False)
    return "tearing"


@pytest.mark.parametrize("opened", [open_by_failures, open_by_broken_streams])
def test_what_one_opens_the_other_spares_and_a_probe_closes_for_both(pair: Pair, opened: Callable[[Pair], str]) -> None:
    """The other one has not called the target once; after the reset time-out one call goes, and all may again."""
    assert pair.two.state("spared") == "closed"
    model = opened(pair)
    assert pair.one.state(model) == "open"
    eventually(lambda: pair.two.state(model) == "open", "the other one shows it")
    assert pair.two.ask(model).json()["error"]["code"] == "circuit_open"
    assert len(pair.upstream.to(model)) == THRESHOLD
    eventually(lambda: pair.one.ask(model).status_code == 200, "it is probed", 2 * RESET_S)
    assert pair.one.state(model) == "closed"
    eventually(lambda: pair.two.state(model) == "closed", "the other one hears that it is back")
    assert pair.two.ask(model).status_code == 200


def test_what_an_operator_says_at_one_holds_at_both(pair: Pair) -> None:
    """Until it is set free, at whichever."""
    pair.two.force("spared", "open")
    eventually(lambda: pair.one.provider("spared")["breaker"]["forced"] == "open", "the other one shows it")
    assert pair.one.ask("spared").json()["error"]["code"] == "circuit_open"
    assert not pair.upstream.to("spared")
    pair.one.force("spared", None)
    eventually(lambda: pair.two.state("spared") == "closed", "the other one hears that it is free")
    assert pair.two.ask("spared").status_code == 200
