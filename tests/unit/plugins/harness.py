"""What the plugins' tests share: a clock to turn, fakes of ports, a real server around a small Litestar app."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import uvicorn
from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.middleware import ASGIMiddleware
from litestar.plugins import InitPlugin

from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import AuthenticationFailed, RetryableError, WattosError
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.ports import Counter, Gauge, Histogram
from plugins.contract.principal import Identity

DEADLINE_S = 5.0
"""Of anything that should happen at once: far over what a loaded machine needs."""


async def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds. Raises: AssertionError at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.005)


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class _Recorder:
    def __init__(self, name: str, labels: Sequence[str], meter: RecordingMeter) -> None:
        self._name, self._n_labels, self._total, self._held = name, len(labels), meter.total, meter.held

    def add(self, amount: float = 1, /, *labels: str) -> None:
        if len(labels) != self._n_labels or amount < 0:
            raise ValueError(self._name)
        self._total[(self._name, *labels)] += int(amount)

    def observe(self, value: float, /, *labels: str) -> None:
        self.add(1, *labels)

    def set(self, value: float, /, *labels: str) -> None:
        if len(labels) != self._n_labels:
            raise ValueError(self._name)
        self._held[(self._name, *labels)] = value
        if not math.isnan(value):
            self._total[(self._name, *labels)] = int(value)


class RecordingMeter:
    """`total[name, *labels]`: sum of what was added, number of what was observed; `held`: what gauges were set to."""

    def __init__(self) -> None:
        self.total: Tally[tuple[str, ...]] = Tally()
        self.held: dict[tuple[str, ...], float] = {}
        self.sources: list[Callable[[], Awaitable[None]]] = []
        self._instruments: dict[str, _Recorder] = {}

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        return self._instruments.setdefault(name, _Recorder(name, labels, self))

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Histogram:
        return self._instruments.setdefault(name, _Recorder(name, labels, self))

    def gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        return self._instruments.setdefault(name, _Recorder(name, labels, self))

    def sample(self, source: Callable[[], Awaitable[None]]) -> None:
        self.sources.append(source)


class RecordingSlowLog:
    """`heard`: (kind, name, duration_ms) of every operation."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, float]] = []

    def took(self, kind: str, name: str, duration_ms: float) -> None:
        self.heard.append((kind, name, duration_ms))


class FakeIdentityLookup:
    """Knows what `records` holds. `asked` are the handles in order; `failing` is raised; `gate` holds answers back."""

    def __init__(self, records: dict[bytes, Identity] | None = None) -> None:
        self.records = records or {}
        self.asked: list[bytes] = []
        self.failing: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.uses: dict[UUID, float] = {}

    async def used(self, keys: Mapping[UUID, float]) -> None:
        if self.failing is not None:
            raise self.failing
        self.uses |= keys

    async def find(self, handle: bytes) -> Identity | None:
        self.asked.append(handle)
        found = self.records.get(handle)  # the answer is of the time of the question, as a database's is
        if self.gate is not None:
            await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        return found


class _Routes(InitPlugin):
    def __init__(self, handlers: Sequence[object], middleware: Sequence[ASGIMiddleware]) -> None:
        self._handlers = handlers
        self._middleware = middleware

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.route_handlers.extend(self._handlers)  # type: ignore[arg-type]
        app_config.middleware.extend(self._middleware)
        return app_config


def render(request: Request, exc: Exception) -> Response[dict[str, str | None]]:
    """One table of statuses, as the app has it; shows nothing of an unknown error but the request's id."""
    status, code = getattr(exc, "status_code", 500), "internal_error"
    if isinstance(exc, WattosError):
        code = exc.code
        status = 401 if isinstance(exc, AuthenticationFailed) else 503 if isinstance(exc, RetryableError) else 400
    return Response({"code": code, "request_id": request.scope["state"].get("request_id")}, status_code=status)


def build(
    plugins: Sequence[GatewayPlugin],
    handlers: Sequence[object],
    *,
    given: Capabilities | None = None,
    middleware: Sequence[ASGIMiddleware] = (),
) -> Litestar:
    """The four steps of the plugin contract, as the composition root takes them; `middleware` goes innermost."""
    capabilities = given or Capabilities()
    for plugin in plugins:
        capabilities = plugin.contribute(capabilities)
    for plugin in plugins:
        plugin.bind(capabilities)
    return Litestar(
        plugins=[*plugins, _Routes(handlers, middleware)],
        exception_handlers={Exception: render},
        openapi_config=None,
    )


@asynccontextmanager
async def serving(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a real uvicorn on 127.0.0.1, in this loop."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    )
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started or running.done())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as client:
            yield client
    finally:
        server.should_exit = True
        await running


def lines(text: str) -> list[dict[str, object]]:
    """Of a log: every line must be one JSON object."""
    parsed = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in parsed)
    return parsed
