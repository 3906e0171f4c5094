"""The process: sockets, signals and exit codes around the app."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
from collections.abc import Generator, Mapping
from types import FrameType

import rich_click as click
import uvicorn
from litestar import Litestar

from app.environment import read_environment
from app.factory import HEALTH, STARTUP_FAILURE, build_app, build_worker_app
from app.http.connections import Connections, allow_open_files
from app.http.protocol import GuardedProtocol, guarded_protocol
from app.operations.health.service import HealthService
from app.own_secrets import ensure_admin_key
from app.settings import Settings

logger = logging.getLogger("server")

LISTEN_BACKLOG = 2048
"""uvicorn's own default: connections that wait to be accepted during a burst."""

GC_THRESHOLDS = (10_000, 20, 20)
"""A request makes about 200 objects that the collector counts, and nearly all of them die without it: at Python's own
(700, 10, 10) it runs every fourth request (6 % of CPU, measured)."""

LAST_REQUESTS_S = 1.0
"""What a connection without any request yet gets when the listener is closed: some round trips."""

POLL_S = 0.02
"""Between two looks at those."""


def run(env: Mapping[str, str], sock: socket.socket, management: socket.socket | None = None) -> int:
    """Serve on `sock` until SIGTERM or SIGINT; health, metrics and plugins on `management`, if given.

    At the first signal readiness answers 503 while requests are still taken for SHUTDOWN_DELAY_S; then running streams
    may go on for SHUTDOWN_GRACE_S; then everything is stopped, children last. Each further signal ends one of the two.
    Returns: the exit code. Raises: WattosError when it cannot start; uvicorn's stack trace of it is left out.
    """
    settings = read_environment(env).settings
    admin_key = ensure_admin_key(env, settings)
    if admin_key.is_new:
        # stderr: logs are on stdout, and a secret has no place in them.
        click.echo(f"administrator's key, shown once (kept in {settings.data_path}): {admin_key.value}", err=True)
    allow_open_files(settings.max_connections)
    app = build_app({**env, "ADMIN_KEY": admin_key.value})
    config = _config(app, settings, grace_s=settings.shutdown_grace_s)
    return _serve(DrainingServer(config, app, settings, delay_s=settings.drain_s, management=management), sock)


def run_worker(env: Mapping[str, str], management: socket.socket | None) -> int:
    """Work on jobs until SIGTERM or SIGINT; health, metrics and plugins are on `management`, if given.

    Raises: WattosError when it cannot start.
    """
    settings = read_environment(env).settings
    app = build_worker_app(env)
    if management is not None:
        return _serve(DrainingServer(_config(app, settings, grace_s=1), app, settings, delay_s=0), management)

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with app.lifespan():
            await stop.wait()

    try:
        asyncio.run(work())
    except Exception:
        if (failure := app.state.get(STARTUP_FAILURE)) is not None:
            raise failure from None  # Litestar puts it into a group, stack trace and all
        raise
    return 0


class DrainingServer(uvicorn.Server):
    """At the first signal it says that it will stop, and stops `delay_s` later.

    On `management` the same app is served from before its start until after its end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: Litestar,
        settings: Settings,
        *,
        delay_s: float,
        management: socket.socket | None = None,
    ) -> None:
        super().__init__(config)
        self.app = app
        self._settings = settings
        self._delay_s = delay_s
        self._management = management
        self._is_draining = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._management is None:
            await super().serve(sockets)
            return
        beside = ManagementServer(_config(self.app, self._settings, grace_s=1, lifespan=False))
        serving = asyncio.create_task(beside.serve([self._management]), name="management server")
        try:
            await super().serve(sockets)
        finally:
            beside.should_exit = True
            await serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what was made at start stays: looking at it again and again holds requests up
        gc.set_threshold(*GC_THRESHOLDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's signal handler. It may interrupt whatever holds a lock, so all else happens in the loop."""
        if self._loop is None:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._on_signal)

    def _on_signal(self) -> None:
        if self.should_exit:
            for task in list(self.server_state.tasks):
                task.cancel("told to stop again")
        elif self._is_draining or not self.started or self._delay_s == 0:
            self._drain()
            self.should_exit = True
        else:
            self._drain()
            logger.info("stopping in %g s: not ready any more", self._delay_s)
            asyncio.get_running_loop().call_later(self._delay_s, setattr, self, "should_exit", True)

    def _drain(self) -> None:
        if self._is_draining:
            return
        self._is_draining = True
        health = self.app.state.get(HEALTH)
        if isinstance(health, HealthService):
            health.drain()
        # Who keeps a connection open should open the next one elsewhere. uvicorn makes its list of default headers anew
        # every second from the config's.
        close = [(b"connection", b"close")]
        self.config.encoded_headers = [*self.config.encoded_headers, *close]
        self.server_state.default_headers = [*self.server_state.default_headers, *close]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn would reset connections that it has not accepted yet, and close those whose first request is on its
        way: calls that began while the listener was open.
        """
        waiting = [connection for sock in sockets or [] for connection in self._close_listener(sock)]
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._new_protocol, connection)
        for _ in range(round(LAST_REQUESTS_S / POLL_S)):
            if all(c.cycle for c in self.server_state.connections if isinstance(c, GuardedProtocol)):
                break
            await asyncio.sleep(POLL_S)
        await super().shutdown(sockets)

    def _close_listener(self, sock: socket.socket) -> list[socket.socket]:
        """Returns: the connections that waited to be accepted."""
        waiting: list[socket.socket] = []
        with sock.dup() as listener:
            listener.setblocking(False)
            for server in self.servers:
                server.close()
            sock.close()
            with contextlib.suppress(OSError):  # nobody waits any more, or who did has left
                while True:
                    waiting.append(listener.accept()[0])
        return waiting

    def _new_protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it."""
        values = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        return self.config.http_protocol_class(**values)  # pyright: ignore[reportCallIssue]  # typed as any protocol


class ManagementServer(uvicorn.Server):
    """Beside the main server, in its loop: signals are the main server's, and it stops last."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _serve(server: DrainingServer, sock: socket.socket) -> int:
    # uvicorn raises a signal again once it has drained: with these handlers in place that ends in exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    logging.getLogger("uvicorn.error").addFilter(lambda record: "Traceback" not in record.getMessage())
    try:
        server.run(sockets=[sock])
    except SystemExit:  # its way to say that the lifespan failed
        if (failure := server.app.state.get(STARTUP_FAILURE)) is not None:
            raise failure from None
        raise
    return 0


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _protocol(settings: Settings) -> type[GuardedProtocol]:
    """Of one listener: each has connections of its own, so that probes never lose their place to the API's callers."""
    connections = Connections(
        max_connections=settings.max_connections,
        header_timeout_s=settings.request_header_timeout_s,
        clock=time.monotonic,
    )
    return guarded_protocol(connections, write_timeout_s=settings.response_write_timeout_s)


def _config(app: Litestar, settings: Settings, *, grace_s: int, lifespan: bool = True) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_protocol(settings),
        ws="none",
        backlog=LISTEN_BACKLOG,
        log_config=None,
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        server_header=False,
        lifespan="on" if lifespan else "off",
        timeout_graceful_shutdown=grace_s,
    )
