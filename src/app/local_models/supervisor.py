"""Keeps one child process alive: ready signal with a deadline, restart with backoff, an end without orphans.

Knows nothing about what the child does; a `Program` says that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from app.local_models.child_process import ChildProcess, Launch
from app.local_models.errors import ChildFailed
from plugins.contract.errors import WattosError

logger = logging.getLogger(__name__)


class Phase(StrEnum):
    """Where a supervised child is in its life."""

    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPED = "stopped"


class ChildState(msgspec.Struct, frozen=True, kw_only=True):
    """For health checks and messages. `last_error` names no secret, path or prompt."""

    phase: Phase
    restarts: int = 0
    last_error: str | None = None
    retry_in_s: float | None = None
    pid: int | None = None


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait between starts. All in seconds."""

    initial_delay_s: float = 0.2
    """As long as a start itself takes (0.2–0.5 s measured): one crash costs callers well under a second."""
    multiplier: float = 2.0
    max_delay_s: float = 30.0
    """A start costs 0.5 s of CPU: a child that never comes up takes under 2 % of a core."""
    healthy_after_s: float = 60.0
    """Twice the longest delay: whoever lives that long has earned a quick restart again; a crash loop has not."""
    recheck_s: float = 1.0
    """When the program cannot be started at all (weights missing): a `stat` a second, so that a `pull` is noticed."""
    stop_grace_s: float = 3.0
    """Both children leave within 15 ms of the end of their stdin (measured); after this they are frozen: SIGKILL."""


class Program(Protocol):
    """What a supervised child is for."""

    name: str
    ready_timeout_s: float

    def launch(self) -> Launch:
        """What to start now. Raises: WattosError when it cannot be started; asked again after `recheck_s`."""
        ...

    async def greet(self, child: ChildProcess) -> None:
        """Return when the child says that it is ready. Raises: ChildFailed, OSError, EOFError."""
        ...

    async def attend(self, child: ChildProcess) -> None:
        """Runs while the child is ready, cancelled when it is gone. To return or raise ChildFailed is to give it up."""
        ...

    def lost(self, state: ChildState) -> None:
        """The child is gone, or could not be started; `state.retry_in_s` says when the next one starts."""
        ...


class Supervisor:
    """Runs one program for as long as it is started. `state` may be read at any time."""

    def __init__(self, program: Program, *, env: Mapping[str, str], policy: RestartPolicy | None = None) -> None:
        self._program = program
        self._env = env
        self._policy = policy or RestartPolicy()
        self._state = ChildState(phase=Phase.STOPPED)
        self._next_start = 0.0
        self._child: ChildProcess | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> ChildState:
        """The state now, with the seconds that remain of a backoff."""
        if self._state.phase is not Phase.BACKOFF:
            return self._state
        return msgspec.structs.replace(self._state, retry_in_s=max(0.0, self._next_start - time.monotonic()))

    def start(self) -> None:
        """Begin, in a task of its own. Returns at once; starting twice changes nothing."""
        if self._task is None:
            self._become(Phase.STARTING)
            self._task = asyncio.create_task(self._run(), name=f"supervisor of {self._program.name}")

    async def stop(self) -> None:
        """End the child (politely, then SIGKILL after the grace) and the task. Stopping twice changes nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        self._become(Phase.STOPPED)  # first, so that nobody new waits for an answer
        task.cancel()
        await asyncio.wait([task])
        self._program.lost(self.state)

    def kill(self, reason: str) -> None:
        """Give up the current child, which misbehaves. It is replaced as after a crash."""
        if self._child is not None:
            logger.warning("%s is killed: %s", self._program.name, reason)
            self._child.kill()

    async def _run(self) -> None:
        delay_s = self._policy.initial_delay_s
        while True:
            ready_at: float | None = None
            try:
                launch = self._program.launch()
            except WattosError as exc:
                await self._pause(self._policy.recheck_s, exc.message)
                continue
            try:
                child = await ChildProcess.spawn(launch, self._env, self._log_line)
            except OSError as exc:
                error = f"could not be started: {exc.strerror}"
            else:
                ready_at, error = await self._live(child)
            if ready_at is not None and time.monotonic() - ready_at >= self._policy.healthy_after_s:
                delay_s = self._policy.initial_delay_s
            logger.error("%s %s; next start in %.1f s", self._program.name, error, delay_s)
            self._state = msgspec.structs.replace(self._state, restarts=self._state.restarts + 1)
            await self._pause(delay_s, error)
            delay_s = min(delay_s * self._policy.multiplier, self._policy.max_delay_s)

    async def _live(self, child: ChildProcess) -> tuple[float | None, str]:
        """From spawn to end. Returns: when it got ready (monotonic seconds; None: never), and what ended it."""
        self._child = child
        self._become(Phase.STARTING, pid=child.pid)
        ready_at: float | None = None
        complaint = ""
        try:
            await self._greet(child)
            ready_at = time.monotonic()
            child.quiet = True
            self._become(Phase.READY, pid=child.pid)
            await self._attend(child)
        except ChildFailed as exc:
            complaint = exc.message
        except (OSError, EOFError):
            pass  # a broken pipe: how the process ended says more
        except Exception:
            # A mistake of ours in talking to the child must not leave the service without its supervisor.
            logger.exception("Talking to %s failed", self._program.name)
            complaint = "was given up after an internal error"
        finally:
            self._child = None
            # A child that closed its pipe is on its way out; one that we complain about must go now.
            ending = await child.stop(0.0 if complaint else self._policy.stop_grace_s)
        return ready_at, complaint or ending

    async def _greet(self, child: ChildProcess) -> None:
        try:
            async with asyncio.timeout(self._program.ready_timeout_s):
                await self._program.greet(child)
        except TimeoutError as exc:
            raise ChildFailed(f"was not ready within {self._program.ready_timeout_s:g} s") from exc

    async def _attend(self, child: ChildProcess) -> None:
        """Attend to the child until either ends."""
        attending = asyncio.create_task(self._program.attend(child), name=f"attending {self._program.name}")
        ended = asyncio.create_task(child.wait(), name=f"end of {self._program.name}")
        try:
            await asyncio.wait([attending, ended], return_when=asyncio.FIRST_COMPLETED)
            if attending.done():
                attending.result()
        finally:
            for task in (attending, ended):
                task.cancel()
            # Both are over after this. `gather` marks their errors as seen: what is reported is how the child ended.
            await asyncio.gather(attending, ended, return_exceptions=True)

    async def _pause(self, delay_s: float, error: str) -> None:
        self._next_start = time.monotonic() + delay_s
        self._state = msgspec.structs.replace(self._state, phase=Phase.BACKOFF, last_error=error, pid=None)
        self._program.lost(self.state)
        await asyncio.sleep(delay_s)
        self._become(Phase.STARTING)

    def _become(self, phase: Phase, pid: int | None = None) -> None:
        self._state = msgspec.structs.replace(self._state, phase=phase, pid=pid)

    def _log_line(self, line: str) -> None:
        if line.strip():
            logger.warning("%s: %s", self._program.name, line)
