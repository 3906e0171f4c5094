"""The production app with every combination of its plugins: each answers a call through the chain."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.factory import build_app
from gateway import config
from plugins.contract.discovery import BUILT_IN, toggle_of
from server import ADMIN_KEY
from upstream import answers, running_upstream

COMBINATIONS = list(itertools.product((True, False), repeat=len(BUILT_IN)))
NAMES = ["+".join(n for n, on in zip(BUILT_IN, c, strict=True) if on) or "none" for c in COMBINATIONS]


@asynccontextmanager
async def serving(env: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """The app of `build_app`, alive, without a socket of its own."""
    app = build_app(env)
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=30) as client:
            yield client


def environment(tmp_path: Path, database_url: str, **env: str) -> dict[str, str]:
    return {
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": database_url,
        "ADMIN_KEY": ADMIN_KEY,
        "LOCAL_MODELS_ENABLED": "false",
        "WORKER_ENABLED": "false",
        "LOG_LEVEL": "error",
        **env,
    }


async def key_of(client: httpx.AsyncClient, slug: str) -> str:
    """A key of a tenant that is made for it."""
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    tenant = await client.post("/api/v1/tenants", json={"name": slug, "slug": slug}, headers=admin)
    body = {"tenant_id": tenant.raise_for_status().json()["id"], "name": "test"}
    made = await client.post("/api/v1/keys", json=body, headers=admin)
    return str(made.raise_for_status().json()["key"])


@pytest.mark.parametrize("on", COMBINATIONS, ids=NAMES)
async def test_every_combination_of_plugins_starts_and_answers(
    on: tuple[bool, ...], tmp_path: Path, database_url: str
) -> None:
    """Off, on, in any combination: a call goes through the chain, health and the list of plugins say how things are."""
    states = dict(zip(BUILT_IN, on, strict=True))
    toggles = {toggle_of(name): str(is_on) for name, is_on in states.items()}
    with running_upstream() as upstream:
        upstream.on("gpt", answers("pong"))
        models = tmp_path / "models.yaml"
        models.write_text(json.dumps(config(upstream.url)))
        async with serving(environment(tmp_path, database_url, MODELS_CONFIG=str(models), **toggles)) as client:
            headers = {"authorization": f"Bearer {await key_of(client, 'one')}"} if states["security"] else {}
            ask = {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "cache": {"mode": "readwrite"}}
            for _ in range(2):
                answer = await client.post("/v1/chat/completions", json=ask, headers=headers)
                assert answer.status_code == 200, answer.text
                assert answer.json()["choices"][0]["message"]["content"] == "pong"
            assert answer.headers["x-wattos-cache"] == ("hit" if states["cache"] else "off")
            assert len(upstream.requests) == (1 if states["cache"] else 2)
            nobody = await client.post("/v1/chat/completions", json=ask)
            assert nobody.status_code == (401 if states["security"] else 200)
            assert (await client.get("/health/readiness")).status_code == 200
            listed = (await client.get("/plugins")).json()["data"]
            assert {state["name"]: state["enabled"] for state in listed} == states
            metrics = await client.get("/health/metrics")
            assert metrics.status_code == (200 if states["observability"] else 404)
            assert ("x-request-id" in answer.headers) == states["observability"]
