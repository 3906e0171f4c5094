"""A gateway for tests of `Idempotency-Key`, the database behind it, and tenants with everything that requests name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from gateway import Gateway, running_gateway
from walk import QUESTION

WAIT_S = 1.0
REPLAYED = "idempotent-replayed"
MESSAGES = [{"role": "user", "content": "ping"}]
CHAT = {"model": "chat", "messages": MESSAGES}
PASSWORD = "vier Birnen auf dem Tisch"
BETTER = "drei Äpfel unter dem Bett"


class World:
    """A gateway whose duplicates wait a second, and the database behind it."""

    def __init__(self, gateway: Gateway, database_url: str) -> None:
        self.gateway = gateway
        self.upstream = gateway.upstream
        self.database_url = database_url

    def post(
        self, path: str, body: Any = None, *, key: str | None = None, by: str | None = None, **request: Any
    ) -> httpx.Response:
        """`key`: the Idempotency-Key, a new one unless said. `by`: a credential."""
        headers = {"idempotency-key": key or uuid4().hex}
        with self.gateway.http(by) as client:
            return client.post(path, json=body, headers=headers, **request)

    def chat(
        self, model: str = "chat", *, key: str | None = None, by: str | None = None, **fields: Any
    ) -> httpx.Response:
        return self.post("/v1/chat/completions", {"model": model, "messages": MESSAGES, **fields}, key=key, by=by)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode()).fetchall()


class Tenant:
    """One with everything that the walk's bodies name. Made anew for each operation: some of them end it."""

    def __init__(self, world: World) -> None:
        gateway, self.slug = world.gateway, f"walked-{uuid4().hex[:8]}"
        with gateway.server.admin() as api:
            self.id = api.post("/api/v1/tenants", json={"name": "x", "slug": self.slug}).json()["id"]
            person = {"tenant_id": self.id, "email": "boss@a.example", "role": "admin", "password": PASSWORD}
            self.user = api.post("/api/v1/users", json=person).raise_for_status().json()["id"]
        asked = {"tenant": self.slug, "email": "boss@a.example", "password": PASSWORD}
        tokens = httpx.post(f"{gateway.server.url}/api/v1/auth/login", json=asked).raise_for_status().json()
        self.token = str(tokens["access_token"])
        with gateway.http(self.token) as client:
            form = {"file": ("x.txt", QUESTION.encode())}
            uploaded = client.post("/v1/files", files=form, data={"purpose": "assistants"})
            self.file = uploaded.raise_for_status().json()["id"]
            self.store = client.post("/v1/vector_stores", json={"name": "x"}).raise_for_status().json()["id"]
            self.key = client.post("/api/v1/keys", json={"name": "x"}).raise_for_status().json()["id"]

    def filled(self, text: Any) -> Any:
        found = json.dumps(text)
        ids = {"file": self.file, "store": self.store, "tenant": self.id, "user": self.user, "key": self.key}
        ids["slug"] = self.slug
        for name, one in ids.items():
            found = found.replace(f"{{{name}}}", one)
        return json.loads(found)


@contextmanager
def running_world(directory: Path, database_url: str, **env: str) -> Iterator[World]:
    """The cache is off: nothing here needs it. No retries of its own: a failure is answered."""
    own = {
        "DATABASE_URL": database_url,
        "IDEMPOTENCY_WAIT_S": str(WAIT_S),
        "RETRY_MAX_ATTEMPTS": "1",
        "PLUGINS_CACHE_ENABLED": "false",
    }
    with running_gateway(directory, {**own, **env}) as gateway:
        yield World(gateway, database_url)
