"""A real `wattos serve` whose models are scripts of the upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai

from server import RunningServer, environment, running
from upstream import API_KEY, Upstream, refused_url, running_upstream

MODES = {"vectors": {"mode": "embedding"}, "guard": {"mode": "moderation"}}
PRICED = {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07}
"""$0.15 and $0.60 a million tokens."""


class Gateway:
    """The server, the vendor behind it, and clients of both kinds."""

    def __init__(self, server: RunningServer, upstream: Upstream) -> None:
        self.server = server
        self.upstream = upstream
        self.key = server.make_key("one")
        self._clients: list[openai.OpenAI] = []

    def http(self, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.server.url, headers=headers, timeout=30)

    def openai(self, key: str | None = None) -> openai.OpenAI:
        """The official client; it retries nothing. `close_clients` closes it."""
        made = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=key or self.key, max_retries=0, timeout=30)
        self._clients.append(made)
        return made

    def close_clients(self) -> None:
        """At a test's end: a socket that the collector finds open is a warning in whatever test runs then."""
        while self._clients:
            self._clients.pop().close()

    def post(self, body: object, path: str = "/v1/chat/completions", key: str | None = None) -> httpx.Response:
        with self.http(key) as client:
            return client.post(path, json=body)

    def ask(self, model: str, key: str | None = None, **fields: object) -> httpx.Response:
        messages = [{"role": "user", "content": "ping"}]
        return self.post({"model": model, "messages": messages, **fields}, key=key)


def config(url: str) -> dict[str, object]:
    """Aliases by what they are for; each target's model name is its script's."""

    def entry(alias: str, model: str, at: str = url, **params: object) -> dict[str, object]:
        return {
            "model_name": alias,
            "litellm_params": {"model": f"openai/{model}", "api_base": at, "api_key": API_KEY, **params},
            "model_info": MODES.get(alias, {}),
        }

    return {
        "model_list": [
            entry("chat", "gpt", **PRICED),
            entry("free", "unpriced"),
            entry("known", "gpt-4o-mini"),
            entry("backed", "dead", refused_url(), **PRICED),
            entry("spare", "spare", **PRICED),
            entry("doomed", "doomed-1", **PRICED),
            entry("doomed", "doomed-2", **PRICED),
            entry("vectors", "vec", **PRICED),
            entry("guard", "guard"),
        ],
        "litellm_settings": {"fallbacks": [{"backed": ["spare"]}]},
    }


@contextmanager
def running_gateway(tmp_path: Path, env: Mapping[str, str] | None = None) -> Iterator[Gateway]:
    """Retries wait no time, so that tests do not."""
    with running_upstream() as upstream:
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        settings = {
            "MODELS_CONFIG": str(models),
            "RETRY_INITIAL_DELAY": "0",
            "RETRY_MAX_DELAY": "0",
            **(env or {}),
        }
        with running(environment(tmp_path / "data", **settings), tmp_path / "server.log") as server:
            yield Gateway(server, upstream)
