"""What it takes to be answered with each code: a real request, or a real fault, on one server that is made for it.

`DRIVERS` has one for each row of `app.http.error_table`; those that need the database gone come last.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import msgspec
import psycopg
from sqlalchemy.engine import make_url

from api import idempotency_drivers, overload_drivers
from raw_http import Answer, exchange
from server import RunningServer
from upstream import API_KEY, Script, Upstream, answers, fails, hangs

MESSAGES = [{"role": "user", "content": "ping"}]
NOBODY = "0" * 32
BACK_S = 15.0
"""A database that is back is used again within 10 s, should its breaker have opened."""


class Faulty(msgspec.Struct, frozen=True):
    """The server under test and what stands behind it. `superuser_url`: its PostgreSQL's maintenance database."""

    server: RunningServer
    upstream: Upstream
    key: str
    database: str
    superuser_url: str
    files: Path
    """Where it keeps uploads."""
    models_config: Path
    with_models: httpx.Client
    """A client of another server, whose local models run."""
    in_production: httpx.Client
    """The administrator's client of a server that has nothing set but what it must."""

    def http(self, method: str, path: str, *, key: str | None = None, **request: object) -> Answer:
        headers = {"authorization": f"Bearer {key or self.key}"}
        with httpx.Client(base_url=self.server.url, headers=headers, timeout=30) as client:
            return answer_of(client.request(method, path, **request))  # type: ignore[arg-type]

    def admin(self, method: str, path: str, **request: object) -> Answer:
        with self.server.admin() as client:
            return answer_of(client.request(method, path, **request))  # type: ignore[arg-type]

    def ask(self, model: str, *scripts: Script) -> Answer:
        """Chat with the target of this name, which behaves like that."""
        self.upstream.on(model, *scripts)
        return self.http("POST", "/v1/chat/completions", json={"model": model, "messages": MESSAGES})

    def raw(self, data: bytes) -> Answer:
        return asyncio.run(exchange(self.server.port, data))


Driver = Callable[[Faulty], Answer]

DEFAULT = "ten_00000000000070008000000000000000"
"""The tenant that is always there."""


def _sign_in_blocked(to: Faulty) -> Answer:
    """Five wrong passwords, and one more."""
    body = {"tenant": "default", "email": "nobody@b.example", "password": "wrong"}
    for _ in range(6):
        answer = to.http("POST", "/api/v1/auth/login", json=body)
    return answer


def _rate_limited(to: Faulty) -> Answer:
    """A key of one request a minute, used twice."""
    key = to.server.make_key("limited")
    with httpx.Client(base_url=to.server.url, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        me = client.get("/api/v1/auth/me").json()
    limit = {"scope": "key", "scope_id": me["key_id"], "requests_per_minute": 1}
    assert to.admin("PUT", "/api/v1/limits", json=limit).status == 200
    deadline = time.monotonic() + 10
    while (answer := to.http("GET", "/v1/models", key=key)).status != 429:
        assert time.monotonic() < deadline, "the limit is not in force"
    return answer


def answer_of(response: httpx.Response) -> Answer:
    return Answer(response.status_code, dict(response.headers), response.content)


def models(url: str) -> dict[str, object]:
    """One alias a driver, so that no breaker hears of another's failures; `chained` has two targets."""

    def entry(alias: str, model: str, **params: object) -> dict[str, object]:
        return {
            "model_name": alias,
            "litellm_params": {"model": f"openai/{model}", "api_base": url, "api_key": API_KEY, **params},
        }

    plain = ("rejected", "long", "limited", "odd", "broken", "refused", "opened", "busy", "kind")
    return {
        "model_list": [
            *(entry(alias, alias) for alias in plain),
            entry("slow", "slow", timeout=0.2),
            entry("priced", "priced", input_cost_per_token=1e-6, output_cost_per_token=1e-6),
            entry("chained", "first"),
            entry("chained", "second"),
            {"model_name": "local", "litellm_params": {"model": "wattos/local"}},
        ]
    }


def _post(body: bytes, path: str = "/v1/chat/completions", **headers: str) -> Driver:
    return lambda to: to.http("POST", path, content=body, headers=headers)


def _not_ingested(to: Faulty) -> Answer:
    """Its embedder is switched off, so that nothing becomes text."""
    file = _upload(to).json()["id"]
    store = to.http("POST", "/v1/vector_stores", json={"file_ids": [file]}).json()["id"]
    return to.http("GET", f"/v1/vector_stores/{store}/files/{file}/content")


def _extreme_value(to: Faulty) -> Answer:
    """A time in year 10,000 once its zone is taken off: well-formed, and no column holds it."""
    tenant = to.admin("GET", "/api/v1/tenants").json()["data"][0]["id"]
    body = {"tenant_id": tenant, "name": "x", "expires_at": "9999-12-31T23:59:59-12:00"}
    return to.admin("POST", "/api/v1/keys", json=body)


def _opened(to: Faulty) -> Answer:
    """Five failures in a row open the breaker."""
    for _ in range(5):
        assert to.ask("opened", fails(503)).status == 502
    return to.ask("opened")


def _invalid_models_config(to: Faulty) -> Answer:
    """The file is mended again: the next driver may reload, too."""
    kept = to.models_config.read_bytes()
    to.models_config.write_text("model_list: {}")
    try:
        return to.admin("POST", "/api/v1/models/reload")
    finally:
        to.models_config.write_bytes(kept)


def _with_budget(to: Faulty, model: str, amount_nusd: int, lock: str = "") -> Answer:
    """A key of its own, so that no other driver meets the budget. `lock`: a table that nobody may touch meanwhile."""
    made = to.admin("POST", "/api/v1/keys", json={"tenant_id": DEFAULT, "name": model}).json()
    budget = {"scope": "key", "scope_id": made["id"], "period": "total", "amount_nusd": amount_nusd}
    assert to.admin("POST", "/api/v1/budgets", json=budget).status == 201
    to.upstream.on(model, answers())
    body = {"model": model, "messages": MESSAGES, "max_tokens": 3}
    with psycopg.connect(make_url(to.superuser_url).set(database=to.database).render_as_string(False)) as other:
        if lock:
            other.execute(f"lock table {lock} in access exclusive mode".encode())
        return to.http("POST", "/v1/chat/completions", json=body, key=made["key"])


def _all_targets_failed(to: Faulty) -> Answer:
    to.upstream.on("second", fails(503))
    to.upstream.on("first", fails(503))
    return to.http("POST", "/v1/chat/completions", json={"model": "chained", "messages": MESSAGES})


def _text(n_bytes: int) -> list[str]:
    return ["x " * 400] * (n_bytes // 800)


@contextlib.contextmanager
def without_database(to: Faulty) -> Iterator[None]:
    """It takes no connections, and those there are end. Afterwards it is used again."""
    with psycopg.connect(to.superuser_url, autocommit=True) as maintenance:
        maintenance.execute(f'alter database "{to.database}" with allow_connections false')
        maintenance.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (to.database,))
        try:
            yield
        finally:
            maintenance.execute(f'alter database "{to.database}" with allow_connections true')
            back_s = time.monotonic() + BACK_S
            while to.admin("GET", "/api/v1/tenants").status != 200:
                assert time.monotonic() < back_s, "the database is not used again"
                time.sleep(0.1)


def _upload(to: Faulty, n_bytes: int = 4) -> Answer:
    form = {"file": ("a.txt", b"text" * (n_bytes // 4))}
    return to.http("POST", "/v1/files", files=form, data={"purpose": "assistants"})


def _no_room(to: Faulty) -> Answer:
    """The process may not write larger files: what a full disk looks like from inside."""
    pid = to.server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4 << 20, hard))
    try:
        return _upload(to, 12 << 20)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _no_storage(to: Faulty) -> Answer:
    """A file stands where the tenant's directory was."""
    assert _upload(to).status == 200
    (kept,) = to.files.iterdir()
    aside = kept.rename(to.files.parent / "aside")
    kept.write_bytes(b"")
    try:
        return _upload(to)
    finally:
        kept.unlink()
        aside.rename(kept)


def _key_unchecked(to: Faulty) -> Answer:
    with without_database(to):
        return to.http("GET", "/v1/models", key="sk-wattos-" + "x" * 43)


def _database_gone(to: Faulty) -> Answer:
    with without_database(to):
        return to.admin("GET", "/api/v1/tenants")


CHAT = b'{"model": "kind", "messages": [{"role": "user", "content": "x"}]}'

DRIVERS: Mapping[str, Driver] = {
    "invalid_request": lambda to: to.http("GET", "/v1/files?limit=0"),
    "invalid_json": _post(b"{"),
    "duplicate_key": _post(b'{"model": "kind", "messages": [{"role": "user", "role": "system"}]}'),
    "missing_field": _post(b"{}"),
    "invalid_character": _post(b'{"name": "a\\u0000"}', "/v1/vector_stores"),
    "unsupported_parameter": _post(b'{"query": "x", "filters": {"a": 1}}', f"/v1/vector_stores/vs_{NOBODY}/search"),
    "wrong_model_kind": _post(b'{"model": "kind", "input": "x"}', "/v1/embeddings"),
    "context_length_exceeded": lambda to: to.ask("long", fails(400, "too long", code="context_length_exceeded")),
    "content_policy_violation": lambda to: to.ask("refused", fails(400, "no", code="content_policy_violation")),
    "not_ingested": _not_ingested,
    "empty_file": lambda to: to.http("POST", "/v1/files", files={"file": ("a", b"")}, data={"purpose": "assistants"}),
    "upstream_rejected": lambda to: to.ask("rejected", fails(400)),
    "malformed_http": lambda to: to.raw(b"GET /v1/models HTTP/1.1\r\ncontent-length: -1\r\n\r\n"),
    "websocket_unsupported": lambda to: to.raw(
        b"GET /v1/realtime HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    ),
    "invalid_api_key": lambda to: to.http("GET", "/v1/models", key="wrong"),
    "permission_denied": lambda to: to.http("GET", "/api/v1/tenants"),
    "price_unknown": lambda to: _with_budget(to, "kind", 10**9),
    "not_found": lambda to: to.http("GET", "/v1/nothing"),
    "model_not_found": _post(b'{"model": "x", "messages": [{"role": "user", "content": "x"}]}'),
    "method_not_allowed": lambda to: to.http("PUT", "/v1/models"),
    "weak_password": lambda to: to.admin(
        "POST", "/api/v1/users", json={"email": "a@b.example", "password": "aaaaaaaaaaaa", "tenant_id": DEFAULT}
    ),
    "address_refused": lambda to: to.admin(
        "POST",
        "/api/v1/provider-keys",
        json={"provider": "openai", "key": "k", "base_url": "https://127.0.0.1", "tenant_id": DEFAULT},
    ),
    "sign_in_failed": lambda to: to.http("POST", "/api/v1/auth/refresh", json={"refresh_token": "none"}),
    "sign_in_blocked": _sign_in_blocked,
    "not_configured": lambda to: answer_of(
        to.in_production.post("/api/v1/provider-keys", json={"provider": "openai", "key": "k", "tenant_id": DEFAULT})
    ),
    "request_timeout": lambda to: to.raw(b"GET /v1/models HTTP/1.1\r\n"),
    "conflict": lambda to: to.admin("POST", "/api/v1/tenants", json={"name": "one", "slug": "one"}),
    "idempotency_in_progress": idempotency_drivers.in_progress,
    "idempotency_answer_not_kept": idempotency_drivers.not_kept,
    "request_too_large": lambda to: to.raw(
        f"POST /v1/embeddings HTTP/1.1\r\nauthorization: Bearer {to.key}\r\ncontent-length: 20000000\r\n\r\n".encode()
    ),
    "uri_too_long": lambda to: to.raw(b"GET /v1/" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n"),
    "unsupported_media_type": _post(CHAT, **{"content-type": "text/xml"}),
    "invalid_models_config": _invalid_models_config,
    "invalid_value": _extreme_value,
    "idempotency_key_reused": idempotency_drivers.reused,
    "rate_limit_exceeded": _rate_limited,
    "insufficient_quota": lambda to: _with_budget(to, "priced", 1),
    "upstream_rate_limited": lambda to: to.ask("limited", fails(429, retry_after="17")),
    "headers_too_large": lambda to: to.raw(b"GET /v1/models HTTP/1.1\r\nx: " + b"a" * 70_000),
    "internal_error": lambda to: to.http("GET", "/v1/crash"),
    "upstream_error": lambda to: to.ask("odd", fails(418)),
    "upstream_unavailable": lambda to: to.ask("broken", fails(503)),
    "upstream_misconfigured": lambda to: to.ask("refused", fails(401)),
    "circuit_open": _opened,
    "overloaded": overload_drivers.overloaded,
    "all_targets_failed": _all_targets_failed,
    "local_model_unavailable": lambda to: to.http(
        "POST", "/v1/chat/completions", json={"model": "local", "messages": MESSAGES}
    ),
    "embedder_unavailable": _post(b'{"model": "wattos-embed", "input": "x"}', "/v1/embeddings"),
    "embedder_busy": lambda to: answer_of(
        to.with_models.post("/v1/embeddings", json={"model": "wattos-embed", "input": _text(2 << 20)[:2048]})
    ),
    "too_many_connections": overload_drivers.full_house,
    "storage_unavailable": _no_storage,
    "storage_full": _no_room,
    "upstream_timeout": lambda to: to.ask("slow", hangs),
    "budget_unavailable": lambda to: _with_budget(to, "priced", 10**9, lock="budget_leases"),
    "temporarily_unavailable": _key_unchecked,
    "database_unavailable": _database_gone,
}
