"""A small app with routes that end in every way a request can, served and observed."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar import get, post
from litestar.middleware import ASGIMiddleware
from litestar.params import FromPath, JSONBody
from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send

from plugins.contract.errors import RetryableError
from plugins.contract.principal import KeyId, Principal, TenantId
from plugins.contract.work import for_tenant
from plugins.observability.config import LogSettings, ObservabilitySettings
from plugins.observability.plugin import ObservabilityPlugin
from unit.plugins.harness import build, eventually, lines, serving

SECRET = "a customer's prompt"
CALLER = Principal(tenant_id=TenantId(uuid.uuid4()), key_id=KeyId(uuid.uuid4()), user_id=uuid.uuid4())


@get("/items/{item:int}")
async def get_item(item: FromPath[int]) -> dict[str, int]:
    return {"item": item}


@post("/echo")
async def echo(data: JSONBody[dict[str, str]]) -> dict[str, str]:
    return data


@get("/broken")
async def broken() -> None:
    raise ValueError(SECRET)


@get("/away")
async def away() -> None:
    raise RetryableError("the database is away")


@get("/stream")
async def stream() -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"data: x\n\n"

    return Stream(chunks(), media_type="text/event-stream")


@get("/endless")
async def endless() -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data: x\n\n"
        await asyncio.Event().wait()

    return Stream(chunks(), media_type="text/event-stream")


@get("/breaking")
async def breaking() -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data: x\n\n"
        raise ValueError(SECRET)

    return Stream(chunks(), media_type="text/event-stream")


@get("/refused")
async def refused() -> None: ...


class Identify(ASGIMiddleware):
    """Stands in for the security plugin, which fails in front of one route."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["path"] == "/refused":
            raise RetryableError("keys cannot be checked")
        scope["state"]["principal"] = CALLER
        for_tenant(CALLER.tenant_id)
        await next_app(scope, receive, send)


HANDLERS = [get_item, echo, broken, away, stream, endless, breaking, refused]
Line = dict[str, Any]


class Observed:
    """A served app, and what it logged so far."""

    def __init__(self, client: httpx.AsyncClient, log: io.StringIO) -> None:
        self.client = client
        self.log = log

    def request_lines(self) -> list[Line]:
        return [line for line in lines(self.log.getvalue()) if line["context"] == "wattos.http"]

    async def line(self) -> Line:
        """The only request's only line."""
        await eventually(lambda: len(self.request_lines()) > 0)
        (line,) = self.request_lines()
        return line

    async def metric(self, name: str) -> float | None:
        """Value of one sample, `name{labels}` as the exposition writes it; None when there is none."""
        text = (await self.client.get("/health/metrics")).text
        found = [row for row in text.splitlines() if row.startswith(f"{name} ")]
        return float(found[0].rpartition(" ")[2]) if found else None


@asynccontextmanager
async def observed(*, level: str = "info", middleware: tuple[ASGIMiddleware, ...] = ()) -> AsyncIterator[Observed]:
    log = io.StringIO()
    settings = LogSettings(log_level=level)  # type: ignore[arg-type]
    plugin = ObservabilityPlugin(ObservabilitySettings(), settings, stream=log)
    async with serving(build([plugin], HANDLERS, middleware=middleware)) as client:
        yield Observed(client, log)
