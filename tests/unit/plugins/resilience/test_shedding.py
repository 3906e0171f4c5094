"""The plugin's middleware on a real server: who is refused, who is not, and how fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.response import Stream
from litestar.types import Receive, Scope, Send

from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import Overloaded
from plugins.contract.permissions import needs
from plugins.resilience.bulkhead import COME_AGAIN_S
from plugins.resilience.config import ProtectionSettings
from plugins.resilience.lag import N_SAMPLES, LoopLag
from plugins.resilience.plugin import ResiliencePlugin
from plugins.resilience.shedding import INTERACTIVE_LAG_FACTOR, Shedding
from unit.plugins.harness import DEADLINE_S, FakeClock, RecordingMeter, build, eventually, serving

pytestmark = pytest.mark.requirement("RES-3")

REFUSED = 503

AnyRequest = Request[Any, Any, State]


class Served:
    """A server with one place and no queue, unless told otherwise. Its model answers once `gate` is open."""

    def __init__(self, **env: int) -> None:
        self.gate = asyncio.Event()
        self.meter = RecordingMeter()
        self.n_begun = 0
        self.deadlines_s: list[float | None] = []
        settings = {"MAX_CONCURRENT_REQUESTS": 1, "MAX_QUEUED_REQUESTS": 0, **env}
        self.plugin = ResiliencePlugin.from_env(
            {f"PLUGINS_RESILIENCE_{name}": str(value) for name, value in settings.items()}
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        @post("/v1/call", opt=needs("models:use"), status_code=200)
        async def call(request: AnyRequest) -> str:
            self.n_begun += 1
            self.deadlines_s.append(request.scope["state"].get("deadline_s"))
            await self.gate.wait()
            return "ok"

        @post("/v1/stream", opt=needs("models:use"), status_code=200)
        async def stream() -> Stream:
            async def pieces() -> AsyncGenerator[str]:
                self.n_begun += 1
                yield "first"
                await self.gate.wait()
                yield "last"

            return Stream(pieces())

        @post("/v1/files", opt=needs("documents:write"), status_code=200)
        async def upload() -> str:
            return "ok"

        @get("/v1/models", opt=needs("models:use"))
        async def models() -> str:
            return "ok"

        app = build([self.plugin], [call, stream, upload, models], given=Capabilities(meter=self.meter))
        async with serving(app) as client:
            yield client

    async def gauges(self) -> tuple[float, float]:
        for source in self.meter.sources:
            await source()
        return self.meter.held["model_requests", "running"], self.meter.held["model_requests", "queued"]

    async def until(self, n_running: int, n_queued: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.gauges() != (n_running, n_queued):  # noqa: ASYNC110  # a gauge has no event
                await asyncio.sleep(0.005)


async def begun(client: httpx.AsyncClient, served: Served, path: str = "/v1/call", **headers: str) -> Call:
    """One more call, that is under way."""
    n_before = served.n_begun
    task = asyncio.create_task(client.post(path, headers=headers))
    await eventually(lambda: served.n_begun > n_before)
    return task


Call = asyncio.Task[httpx.Response]


async def test_more_calls_than_places_are_refused_before_they_begin() -> None:
    """Whatever the handler would have done, it did not begin; once there is a place again, calls go on."""
    served = Served()
    async with served.client() as client:
        under_way = await begun(client, served)
        answer = await client.post("/v1/call")
        assert (answer.status_code, answer.json()["code"]) == (REFUSED, "overloaded")
        assert served.n_begun == 1
        assert served.meter.total["requests_shed_total", "places", "interactive"] == 1
        assert await served.gauges() == (1, 0)
        served.gate.set()
        assert (await under_way).text == "ok"
        assert (await client.post("/v1/call")).text == "ok"
        assert await served.gauges() == (0, 0)


async def test_all_that_calls_no_model_is_never_refused() -> None:
    """Probes, lists and uploads."""
    served = Served()
    async with served.client() as client:
        under_way = await begun(client, served)
        assert (await client.get("/v1/models")).text == "ok"
        assert (await client.post("/v1/files")).text == "ok"
        served.gate.set()
        await under_way


async def test_a_stream_holds_its_place_to_its_end() -> None:
    """It costs what it costs as long as it runs, and not a moment longer."""
    served = Served()
    async with served.client() as client:
        async with client.stream("POST", "/v1/stream") as answer:
            pieces = answer.aiter_text()
            assert await anext(pieces) == "first"
            assert (await client.post("/v1/call")).status_code == REFUSED
            served.gate.set()
            assert await anext(pieces) == "last"
        assert (await client.post("/v1/call")).text == "ok"


async def test_a_client_that_leaves_a_stream_gives_its_place_back() -> None:
    """Else every reload of a page would cost one."""
    served = Served()
    async with served.client() as client:
        async with client.stream("POST", "/v1/stream") as answer:
            assert await anext(answer.aiter_text()) == "first"
        await served.until(0, 0)
        served.gate.set()
        assert (await client.post("/v1/call")).text == "ok"


async def test_who_waits_in_the_queue_is_served_interactive_first() -> None:
    """By the request's header; anything unknown is interactive."""
    served = Served(MAX_QUEUED_REQUESTS=2)
    async with served.client() as client:
        first = await begun(client, served)
        batch = asyncio.create_task(client.post("/v1/call", headers={"x-wattos-priority": "Batch"}))
        await served.until(1, 1)
        person = asyncio.create_task(client.post("/v1/call", headers={"x-wattos-priority": "urgent!"}))
        await served.until(1, 2)
        another = asyncio.create_task(client.post("/v1/call"))
        answer = await batch  # it gives way
        assert answer.status_code == REFUSED
        assert served.meter.total["requests_shed_total", "places", "batch"] == 1
        served.gate.set()
        assert [(await one).text for one in (first, person, another)] == ["ok"] * 3


async def test_waiting_has_an_end() -> None:
    """Then it is refused, as if the queue were full."""
    served = Served(MAX_QUEUED_REQUESTS=2, MAX_QUEUE_WAIT_MS=20)
    async with served.client() as client:
        under_way = await begun(client, served)
        assert (await client.post("/v1/call")).status_code == REFUSED
        served.gate.set()
        await under_way


async def test_the_callers_deadline_holds_in_the_queue_too() -> None:
    """It waits no longer than it said, and what it waited counts: the deadline is one, from the arrival on."""
    served = Served(MAX_QUEUED_REQUESTS=2, MAX_QUEUE_WAIT_MS=600_000)
    async with served.client() as client:
        under_way = await begun(client, served)
        late = await client.post("/v1/call", headers={"x-request-timeout-ms": "20"})
        assert late.json()["code"] == "upstream_timeout"
        assert served.meter.total["requests_shed_total", "deadline", "interactive"] == 1
        asked_s = asyncio.get_running_loop().time()
        patient = asyncio.create_task(client.post("/v1/call", headers={"x-request-timeout-ms": "60000"}))
        await served.until(1, 1)
        served.gate.set()
        assert [(await one).text for one in (under_way, patient)] == ["ok", "ok"]
        assert served.deadlines_s == [None, pytest.approx(asked_s + 60, abs=DEADLINE_S)]


class World:
    """The middleware alone, in front of an app that does nothing."""

    def __init__(self, lag_s: float, **settings: int) -> None:
        self.lag = LoopLag()
        self.lag.lasting_s = lag_s
        self.shedding = Shedding(ProtectionSettings(**settings), self.lag)
        self.n_served = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            self.n_served += 1

        self.app = self.shedding.around(app)

    def ask(self, priority: str | None = None) -> Awaitable[None]:
        class Handler:
            opt = needs("models:use")

        headers = [(b"accept", b"*/*")]
        if priority is not None:
            headers.append((b"x-wattos-priority", priority.encode()))
        scope = {"type": "http", "method": "POST", "headers": headers, "route_handler": Handler}
        return self.app(scope, _never, _never)  # type: ignore[arg-type]  # as much of a scope as it looks at


async def _never(*_: object) -> None:
    raise AssertionError


async def test_a_late_loop_refuses_batch_calls_first() -> None:
    """And interactive ones when it is several times as late."""
    late = World(0.501)
    with pytest.raises(Overloaded) as caught:
        await late.ask("batch")
    assert caught.value.retry_after_s == COME_AGAIN_S["batch"]
    await late.ask("interactive")
    await late.ask()
    assert late.n_served == 2
    later = World(0.5 * INTERACTIVE_LAG_FACTOR + 0.001)
    with pytest.raises(Overloaded):
        await later.ask()
    await World(0.5).ask("batch")


async def test_any_lag_is_borne_when_the_setting_says_so() -> None:
    """0: any."""
    world = World(1000.0, max_loop_lag_ms=0)
    await world.ask("batch")
    assert world.n_served == 1


async def test_a_refusal_waits_for_nothing() -> None:
    """Not even for a turn of the event loop, which may be late: the coroutine ends where it begins."""
    world = World(0.0, max_concurrent_requests=1, max_queued_requests=0)
    assert world.shedding.places.try_take()
    with pytest.raises(Overloaded):
        world.ask().__await__().__next__()
    assert world.n_served == 0


class Loop:
    """An event loop whose timers fire as late as `late_s` says, in turn, then never."""

    def __init__(self, *late_s: float) -> None:
        self.clock = FakeClock()
        self._late_s = [*late_s]
        self.lag = LoopLag(clock=self.clock, sleep=self._sleep)

    async def watched(self) -> float:
        watching = asyncio.create_task(self.lag.watch())
        await eventually(lambda: not self._late_s)
        await asyncio.sleep(0)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return self.lag.lasting_s

    async def _sleep(self, seconds: float) -> None:
        if not self._late_s:
            await asyncio.Event().wait()
        self.clock.now_s += seconds + self._late_s.pop(0)


async def test_lag_counts_once_it_lasts() -> None:
    """The least of the last samples: one long computation is no overload, and one sample in time ends it."""
    assert await Loop(9.0).watched() == 0.0
    assert await Loop(*[9.0] * (N_SAMPLES - 1)).watched() == 0.0
    assert await Loop(9.0, *[2.0] * (N_SAMPLES - 1)).watched() == pytest.approx(2.0)
    assert await Loop(*[9.0] * N_SAMPLES, 0.0).watched() == 0.0


class Telling:
    """A Valkey that takes whatever it is told."""

    def __init__(self) -> None:
        self.n_calls = 0

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Sequence[object]:
        self.n_calls += 1
        return [1, [], []]


async def test_replicas_tell_each_other_while_the_app_lives() -> None:
    """And not after: the task ends with it."""
    shared = Telling()
    plugin = ResiliencePlugin.from_env({})
    async with serving(build([plugin], [], given=Capabilities(shared_state=shared))):
        await eventually(lambda: shared.n_calls > 0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("resilience-")]
