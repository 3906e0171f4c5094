"""The four built-in plugins mounted together: each combination of toggles is an app that answers."""

from __future__ import annotations

import io
import itertools

import pytest
from litestar import get
from litestar.testing import TestClient

from plugins.cache.config import CacheSettings
from plugins.cache.plugin import CachePlugin
from plugins.contract.credentials import generate_key
from plugins.contract.discovery import BUILT_IN, discover
from plugins.observability.config import LogSettings, ObservabilitySettings
from plugins.observability.plugin import ObservabilityPlugin
from plugins.security.plugin import SecurityPlugin
from unit.plugins.harness import build, lines

ADMIN_KEY = "0123456789abcdef0123456789abcdef"
COMBINATIONS = list(itertools.product(("true", "false"), repeat=len(BUILT_IN)))


@get("/")
async def index() -> str:
    return "here"


@pytest.mark.parametrize("toggles", COMBINATIONS, ids=["".join(t[0] for t in c) for c in COMBINATIONS])
def test_every_combination_of_toggles_is_an_app_that_answers(toggles: tuple[str, ...]) -> None:
    """A plugin that is off leaves a null behind, and nothing else changes."""
    on = dict(zip(BUILT_IN, toggles, strict=True))
    env = {f"PLUGINS_{name.upper()}_ENABLED": toggle for name, toggle in on.items()}
    plugins = [kind.from_env({**env, "ADMIN_KEY": ADMIN_KEY}) for kind in discover(env, installed=()).enabled]
    with TestClient(build(plugins, [index])) as client:
        answer = client.get("/", headers={"authorization": f"Bearer {ADMIN_KEY}"})
        assert (answer.status_code, answer.text) == (200, "here")
        assert client.get("/").status_code == (401 if on["security"] == "true" else 200)
        assert client.get("/health/metrics").status_code == (200 if on["observability"] == "true" else 404)
        assert ("x-request-id" in answer.headers) == (on["observability"] == "true")


def test_refusals_are_seen_from_outside_and_leak_no_key() -> None:
    """The log and the metrics are around authentication."""
    log = io.StringIO()
    plugins = [
        ObservabilityPlugin(ObservabilitySettings(), LogSettings(log_level="trace"), stream=log),
        SecurityPlugin.from_env({"ADMIN_KEY": ADMIN_KEY}),
        CachePlugin(CacheSettings()),
    ]
    key = generate_key().key
    with TestClient(build(plugins, [index])) as client:
        refused = client.get("/", headers={"authorization": f"Bearer {key}"})
        client.get("/", headers={"authorization": f"Bearer {ADMIN_KEY}"})
        metrics = client.get("/health/metrics").text
    first, second, *_ = [line for line in lines(log.getvalue()) if line["context"] == "wattos.http"]
    assert first["reqId"] == refused.headers["x-request-id"]
    assert first["err"] == {
        "type": "AuthenticationFailed",
        "message": first["err"]["message"],
        "stack": f"plugins.contract.errors.AuthenticationFailed: {first['err']['message']}",
    }
    assert second["req"]["tenant"] is None
    assert 'authentications_total{result="refused"} 1.0' in metrics
    assert 'http_requests_total{method="GET",route="/",status="401"} 1.0' in metrics
    assert key not in log.getvalue()
    assert ADMIN_KEY not in log.getvalue()
