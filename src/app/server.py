"""The process: sockets, signals and exit codes around the app."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping

import rich_click as click
import uvicorn

from app.admin_key import ensure_admin_key
from app.factory import STARTUP_FAILURE, build_app, worker_capabilities
from app.runtime import Runtime
from app.settings import read_settings

LISTEN_BACKLOG = 2048
"""uvicorn's own default: connections that wait to be accepted during a burst."""


def run(env: Mapping[str, str], sock: socket.socket) -> int:
    """Serve on `sock` until SIGTERM or SIGINT. Returns: the exit code.

    At the first signal running streams may go on for SHUTDOWN_GRACE_S; then everything is stopped, children last.
    Raises: WattosError when it cannot start; uvicorn's stack trace of it is left out.
    """
    settings = read_settings(env)
    admin_key = ensure_admin_key(env, settings)
    app = build_app({**env, "ADMIN_KEY": admin_key.value})
    if admin_key.is_new:
        # stderr: logs are on stdout, and a secret has no place in them.
        click.echo(f"administrator's key, shown once (kept in {settings.data_path}): {admin_key.value}", err=True)
    config = uvicorn.Config(
        app,
        backlog=LISTEN_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    # uvicorn raises a signal again once it has drained: with these handlers in place that ends in exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    logging.getLogger("uvicorn.error").addFilter(lambda record: "Traceback" not in record.getMessage())
    try:
        server.run(sockets=[sock])
    except SystemExit:  # its way to say that the lifespan failed
        if (failure := app.state.get(STARTUP_FAILURE)) is not None:
            raise failure from None
        raise
    return 0


def run_worker(env: Mapping[str, str]) -> int:
    """Work on jobs until SIGTERM or SIGINT."""
    capabilities = worker_capabilities(env)
    runtime = Runtime(read_settings(env), env)
    runtime.observe_with(capabilities)

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        capabilities.logs.start()
        async with runtime.working():
            await stop.wait()

    try:
        asyncio.run(work())
    finally:
        capabilities.logs.stop()
    return 0
