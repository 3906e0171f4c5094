"""The log of a real server after a mixed run: pino's shape, ids on every line, slow operations, and no secret."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Gateway, running_gateway
from secrets_of_all_kinds import BY_NAME, BY_SHAPE, JWT, telling_part
from server import ADMIN_KEY, ROOT
from upstream import API_KEY, answers, dies, fails

THRESHOLDS = ("REQUEST", "STATEMENT", "TRANSACTION", "MODEL", "CACHE", "JOB")
PROMPT = "the-prompt-of-a-customer-nobody-may-read"
ANSWER = "the-answer-that-nobody-may-read"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Everything is slow here, and everything is logged."""
    slow = {f"PLUGINS_OBSERVABILITY_SLOW_{name}_MS": "0" for name in THRESHOLDS}
    with running_gateway(tmp_path_factory.mktemp("logs"), {"LOG_LEVEL": "debug", **slow}) as gateway:
        _mixed_run(gateway)
        yield gateway


def _mixed_run(gateway: Gateway) -> None:
    """Answers and failures of every sort, with secrets in every place that a request has."""
    upstream = gateway.upstream
    upstream.on("gpt", answers(ANSWER))
    assert gateway.ask("chat", messages=[{"role": "user", "content": PROMPT}], cache={"mode": "readwrite"}).is_success
    assert list(gateway.openai().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": PROMPT}], stream=True
    ))  # fmt: skip
    upstream.on("doomed-1", dies)
    with gateway.http() as client:
        for secret in (*BY_SHAPE.values(), *(f"{name}={value}" for name, value in BY_NAME.items())):
            upstream.on("doomed-2", fails(401, f"invalid credentials: {secret}"))
            gateway.ask("doomed")
            gateway.ask(secret)
            gateway.post({"model": "chat", "messages": secret, "password": secret, "user": secret})
            line = secret.replace("\n", " ")
            client.get("/v1/files", params={"after": secret, "api_key": secret})
            client.get(f"/v1/models/{line}")
            client.get(f"/nowhere/{line}")
            client.post("/v1/chat/completions", content=secret.encode())
            headers = {"x-request-id": line, "cookie": line, "api-key": line, "x-amz-security-token": line}
            client.get("/v1/models", headers=headers)
            client.get("/v1/models", headers={"authorization": line})
            client.post("/v1/files", files={"file": (line[:60], secret.encode())}, data={"purpose": line})
    with gateway.server.admin() as admin:
        admin.post("/api/v1/keys", json={"tenant_id": JWT, "name": BY_SHAPE["openai"]})
    _ingest(gateway)


def _ingest(gateway: Gateway) -> None:
    with gateway.http() as client:
        text = f"# Handbuch\n\n{PROMPT} {BY_SHAPE['wattos']}".encode()
        uploaded = client.post("/v1/files", files={"file": ("a.md", text)}, data={"purpose": "assistants"})
        store = client.post("/v1/vector_stores", json={"name": "s"}).raise_for_status().json()["id"]
        file = uploaded.raise_for_status().json()["id"]
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file}).raise_for_status()
        deadline = time.monotonic() + 60
        while client.get(f"/v1/vector_stores/{store}/files/{file}").json()["status"] == "in_progress":
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="module")
def text(gateway: Gateway) -> str:
    """All that was written, once the last line is there."""
    return gateway.server.logged()


@pytest.fixture(scope="module")
def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.requirement("OBS-1")
def test_every_line_is_json_in_pinos_shape(lines: list[dict[str, Any]]) -> None:
    """Ours, the server's and the libraries': one object a line with pino's fields."""
    assert len(lines) > 100
    for line in lines:
        assert line["level"] in {10, 20, 30, 40, 50, 60}
        assert abs(line["time"] / 1000 - time.time()) < 600
        assert line.keys() >= {"pid", "hostname", "msg", "context"}
        if "err" in line:
            assert line["err"].keys() == {"type", "message", "stack"}


@pytest.mark.requirement("OBS-2")
def test_every_request_is_one_line_with_who_and_what(lines: list[dict[str, Any]], gateway: Gateway) -> None:
    """Method, url without query values, route, tenant, key and address; status and time."""
    requests = [line for line in lines if line["context"] == "wattos.http"]
    ids = [line["reqId"] for line in requests]
    assert len(ids) == len(set(ids))
    for line in requests:
        assert line["req"].keys() == {"method", "url", "route", "tenant", "user", "keyId", "remoteAddress"}
        assert line["res"]["statusCode"] >= 200
        assert line["responseTime"] >= 0
    (listed, *_) = [r for r in requests if r["req"]["route"] == "/v1/files" and "?" in r["req"]["url"]]
    assert listed["req"]["tenant"].startswith("ten_")
    assert listed["req"]["keyId"].startswith("key_")
    assert listed["req"]["remoteAddress"] == "127.0.0.1"


@pytest.mark.requirement("OBS-1")
def test_every_line_of_a_request_carries_its_id_and_its_tenant(lines: list[dict[str, Any]]) -> None:
    """What the chain, the cache and the database say while a request runs is found by its id; a job's by its own."""
    tenants = {line["reqId"]: line["req"]["tenant"] for line in lines if line["context"] == "wattos.http"}
    of_calls = [line for line in lines if ("llm" in line or line["msg"] == "slow operation") and "jobId" not in line]
    of_requests = [line for line in of_calls if "reqId" in line]
    assert len(of_requests) > 20
    for line in of_requests:
        if tenants[line["reqId"]] is not None and "llm" in line:
            assert line["tenant"] == tenants[line["reqId"]]
    assert any("llm" in line for line in of_requests)
    assert all("reqId" in line for line in lines if "llm" in line)
    of_jobs = [line for line in lines if "jobId" in line]
    assert of_jobs
    assert all(line["tenant"].startswith("ten_") for line in of_jobs)


@pytest.mark.requirement("OBS-3")
def test_slow_operations_are_warned_about_by_name(lines: list[dict[str, Any]]) -> None:
    """Past a kind's threshold: at warn, with name and `durationMs`, and never with a statement's values."""
    slow = [line for line in lines if line["msg"] == "slow operation"]
    assert {line["kind"] for line in slow} >= {"request", "statement", "transaction", "model", "cache", "job"}
    for line in slow:
        assert line["level"] == 40
        assert line["operation"]
        assert line["durationMs"] >= line["thresholdMs"] == 0
    assert "POST /v1/chat/completions" in {line["operation"] for line in slow if line["kind"] == "request"}


@pytest.mark.requirement("OBS-2")
@pytest.mark.parametrize("kind", [*BY_SHAPE, *BY_NAME])
def test_no_secret_is_in_the_log(text: str, kind: str) -> None:
    """Headers, urls, bodies, file names, request ids, vendors' messages: every kind in every place."""
    secret = {**BY_SHAPE, **BY_NAME}[kind]
    assert telling_part(secret) not in text


@pytest.mark.requirement("OBS-2")
def test_no_prompt_answer_or_key_of_ours_is_in_the_log(text: str, gateway: Gateway) -> None:
    """What customers say, what models answer, and the keys that WattOS itself holds."""
    for never in (PROMPT, ANSWER, gateway.key, ADMIN_KEY, API_KEY):
        assert never not in text


@pytest.mark.requirement("OBS-1")
def test_pino_pretty_prints_a_mixed_run(text: str, lines: list[dict[str, Any]]) -> None:
    """Every line is read: its message is shown, and no JSON is left over."""
    pretty = ROOT / "node_modules" / ".bin" / "pino-pretty"
    node = shutil.which("node", path=str(ROOT / ".venv" / "bin"))
    if node is None or not pretty.exists():
        pytest.skip("npm's tools are not installed: make tools")
    run = subprocess.run(
        [node, str(pretty.resolve()), "--colorize=false"], input=text, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.splitlines()
    assert not [line for line in printed if line.startswith('{"')]
    shown = [line for line in printed if line.startswith("[")]
    assert len(shown) == len(lines)
    assert sum("slow operation" in line for line in shown) == sum(line["msg"] == "slow operation" for line in lines)
    assert any("WARN" in line for line in shown)
    assert any("INFO" in line for line in shown)
