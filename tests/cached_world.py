"""A gateway whose aliases are about giving answers again, and the requests of its tests, each of them new."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from gateway import PRICED, Gateway, config
from server import environment, running
from upstream import API_KEY, Upstream, running_upstream

KEEP: Mapping[str, Any] = {"cache": {"mode": "readwrite"}}
COST = 7 * 150 + 3 * 600
"""Of the upstream's seven tokens in and three out, at `PRICED`, in nano-dollars."""

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "messages": "/v1/messages"}


class Cached(Gateway):
    """`models`: the file of its configuration, which a test may write anew."""

    models: Path

    def say(self, model: str = "chat", key: str | None = None, **fields: object) -> httpx.Response:
        return self.post({"model": model, "messages": [{"role": "user", "content": "ping"}], **fields}, key=key)

    def states(self, *bodies: Mapping[str, object], path: str = PATHS["chat"], key: str | None = None) -> list[str]:
        """What `x-wattos-cache` says to each."""
        return [self.post(body, path, key).headers["x-wattos-cache"] for body in bodies]

    def calls(self) -> int:
        return len(self.upstream.requests)


def asking(model: str = "chat", text: str = "", **fields: object) -> dict[str, Any]:
    """A chat request that nobody has sent before."""
    return {"model": model, "messages": [{"role": "user", "content": text or uuid4().hex}], **KEEP, **fields}


def body_of(wire: str, *, stream: bool = False, **fields: object) -> dict[str, Any]:
    """A request of one of the three wires."""
    body = asking("claude" if wire == "claude" else "chat", stream=stream, max_tokens=50, **fields)
    if wire == "completions":
        body["prompt"] = body.pop("messages")[0]["content"]
    return body


def path_of(wire: str) -> str:
    return PATHS["messages" if wire == "claude" else wire]


def entries(url: str) -> dict[str, Any]:
    """`tests/gateway.py`'s aliases, and: `kept`, whose answers are given again unasked; `brief`, for a second; `apart`,
    to each user alone; `never`; `claude`, on Anthropic's wire; `seamed`, where a second target may go on."""
    made: dict[str, Any] = config(url)

    def entry(alias: str, model: str, **info: object) -> dict[str, Any]:
        params = {"model": f"openai/{model}", "api_base": url, "api_key": API_KEY, **PRICED}
        return {"model_name": alias, "litellm_params": params, "model_info": info}

    claude = {"model": "anthropic/claude-one", "api_base": url.removesuffix("/v1"), "api_key": API_KEY, **PRICED}
    made["model_list"] += [
        entry("kept", "kept", x_wattos_cache={"mode": "readwrite", "ttl_s": 60}),
        entry("brief", "brief", x_wattos_cache={"ttl_s": 1}),
        entry("apart", "apart", x_wattos_cache={"mode": "readwrite", "scope": "user"}),
        entry("never", "never", x_wattos_cache={"mode": "off"}),
        entry("seamed", "seam-1", x_wattos_seam=True),
        entry("seamed", "seam-2", x_wattos_seam=True),
        {"model_name": "claude", "litellm_params": claude},
    ]
    return made


@contextmanager
def running_cached(
    tmp_path: Path, upstream: Upstream | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Cached]:
    if upstream is None:
        with running_upstream() as own, running_cached(tmp_path, own, env) as gateway:
            yield gateway
        return
    models = tmp_path / "models.yaml"
    models.write_text(json.dumps(entries(upstream.url)))
    settings = {
        "MODELS_CONFIG": str(models),
        "LOCAL_MODELS_ENABLED": "false",
        "RETRY_INITIAL_DELAY": "0",
        "RETRY_MAX_DELAY": "0",
        "RETRY_MAX_ATTEMPTS": "1",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000",
        **(env or {}),
    }
    with running(environment(tmp_path / "data", **settings), tmp_path / "server.log") as server:
        gateway = Cached(server, upstream)
        gateway.models = models
        yield gateway
