"""How any child is started, watched, restarted and ended. The children are a few lines of Python each."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.local_models.child_process import Launch
from app.local_models.supervisor import Phase, RestartPolicy, Supervisor
from plugins.contract.errors import WattosError
from unit.app.local_models.support import Script, alive, eventually, open_files

READY = "from app.local_models.lifeline import *\npipe, out = attach_to_parent()\nout.write(b'ready\\n'); out.flush()\n"
SERVES = READY + "leave_with_parent(pipe)\n"
POLICY = RestartPolicy(initial_delay_s=0.01, max_delay_s=0.04, healthy_after_s=60, recheck_s=0.01, stop_grace_s=0.2)

Supervise = Callable[..., Supervisor]


@pytest.fixture
async def supervise() -> AsyncIterator[Supervise]:
    """Starts supervisors; each is stopped at the end."""
    started: list[Supervisor] = []

    def start(program: Script, policy: RestartPolicy = POLICY, env: dict[str, str] | None = None) -> Supervisor:
        supervisor = Supervisor(program, env=dict(os.environ) if env is None else env, policy=policy)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        await supervisor.stop()


async def ready(supervisor: Supervisor) -> int:
    """Returns: the child's process id."""
    await eventually(lambda: supervisor.state.phase is Phase.READY, "the child is ready")
    assert supervisor.state.pid is not None
    return supervisor.state.pid


async def test_child_is_ready_only_after_its_signal(tmp_path: Path, supervise: Supervise) -> None:
    """`starting` until the child says so itself."""
    gate = tmp_path / "gate"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
    supervisor = supervise(Script(tmp_path, wait + SERVES))
    await eventually(lambda: supervisor.state.pid is not None, "the child runs")
    assert supervisor.state.phase is Phase.STARTING
    gate.touch()
    await ready(supervisor)
    assert supervisor.state.restarts == 0


async def test_child_that_is_never_ready_is_replaced_after_its_deadline(tmp_path: Path, supervise: Supervise) -> None:
    """A start that hangs is an error like any other, and its process does not stay."""
    script = Script(tmp_path, "import time; time.sleep(60)", ready_timeout_s=0.2)
    supervisor = supervise(script)
    await eventually(lambda: supervisor.state.pid is not None, "the child runs")
    pid = supervisor.state.pid
    assert pid is not None
    await eventually(lambda: supervisor.state.restarts > 0, "it is given up")
    assert supervisor.state.last_error == "was not ready within 0.2 s"
    assert not alive(pid)


async def test_child_that_keeps_crashing_is_restarted_ever_later(tmp_path: Path, supervise: Supervise) -> None:
    """Backoff doubles up to its maximum, and health can say why."""
    script = Script(tmp_path, "raise SystemExit(3)")
    supervisor = supervise(script)
    await eventually(lambda: len(script.losses) >= 5, "five crashes")
    waits = [state.retry_in_s or 0.0 for state in script.losses[:5]]
    assert waits == pytest.approx([0.01, 0.02, 0.04, 0.04, 0.04], abs=0.005)
    assert supervisor.state.last_error == "exited with code 3"


async def test_backoff_starts_anew_after_a_long_life(tmp_path: Path, supervise: Supervise) -> None:
    """A child that has lived long enough before its crash is restarted quickly again."""
    policy = RestartPolicy(initial_delay_s=0.01, max_delay_s=30, healthy_after_s=0)
    script = Script(tmp_path, SERVES)
    supervisor = supervise(script, policy)
    for crashes in range(1, 4):
        os.kill(await ready(supervisor), signal.SIGKILL)
        await eventually(lambda n=crashes: supervisor.state.restarts == n, "the crash is seen")  # type: ignore[misc]  # mypy: lambda default
    assert [state.retry_in_s for state in script.losses] == pytest.approx([0.01] * 3, abs=0.005)
    assert supervisor.state.last_error == "was killed by SIGKILL"


async def test_program_that_cannot_start_yet_is_asked_again(tmp_path: Path, supervise: Supervise) -> None:
    """Weights that arrive later need no restart of the server, and waiting for them is no crash."""

    class NotYet(Script):
        asked = 0

        def launch(self) -> Launch:
            self.asked += 1
            if self.asked < 3:
                raise WattosError("has no weights")
            return super().launch()

    supervisor = supervise(NotYet(tmp_path, SERVES))
    await eventually(lambda: supervisor.state.last_error == "has no weights", "it says why")
    await ready(supervisor)
    assert supervisor.state.restarts == 0


async def test_stop_leaves_no_process_when_the_child_is_polite(tmp_path: Path, supervise: Supervise) -> None:
    """The end of stdin is enough, and the state says `stopped`."""
    supervisor = supervise(Script(tmp_path, SERVES), RestartPolicy(stop_grace_s=20))
    pid = await ready(supervisor)
    await supervisor.stop()
    assert not alive(pid)
    assert supervisor.state.phase is Phase.STOPPED
    await supervisor.stop()


async def test_stop_kills_a_child_that_does_not_leave(tmp_path: Path, supervise: Supervise) -> None:
    """After the grace there is no mercy."""
    supervisor = supervise(Script(tmp_path, READY + "import time; time.sleep(60)"))
    pid = await ready(supervisor)
    await supervisor.stop()
    assert not alive(pid)


async def test_stop_while_starting_leaves_no_process(tmp_path: Path, supervise: Supervise) -> None:
    """Whatever the moment."""
    supervisor = supervise(Script(tmp_path, "import time; time.sleep(60)"))
    await eventually(lambda: supervisor.state.pid is not None, "the child runs")
    pid = supervisor.state.pid
    assert pid is not None
    await supervisor.stop()
    assert not alive(pid)


async def test_child_leaves_signals_to_its_parent(tmp_path: Path, supervise: Supervise) -> None:
    """Ctrl-C and a group-wide SIGTERM reach the child too, but only the parent decides."""
    supervisor = supervise(Script(tmp_path, SERVES))
    pid = await ready(supervisor)
    blocked = Path(f"/proc/{pid}/status").read_text()
    ignored = int(next(line.split()[1] for line in blocked.splitlines() if line.startswith("SigIgn")), 16)
    assert ignored & 1 << (signal.SIGINT - 1)
    assert ignored & 1 << (signal.SIGTERM - 1)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert alive(pid)
    assert supervisor.state.phase is Phase.READY


async def test_child_inherits_neither_sockets_nor_secrets(tmp_path: Path, supervise: Supervise) -> None:
    """A child cannot hold the server's port open, and does not know its keys; secrets are not on its command line."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        env = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-x", "DATABASE_URL": "postgres://x"}
        pid = await ready(supervise(Script(tmp_path, SERVES), env=env))
        assert not [target for target in open_files(pid) if target == f"socket:[{os.fstat(listening.fileno()).st_ino}]"]
    names = {entry.split(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if entry}
    assert names == {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert b"the secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_stderr_of_a_failing_start_is_logged(
    tmp_path: Path, supervise: Supervise, caplog: pytest.LogCaptureFixture
) -> None:
    """Why a start fails is in the log."""
    caplog.set_level(logging.WARNING, "app")  # apps built by other tests in this process may have set another
    supervisor = supervise(Script(tmp_path, "raise SystemExit('no such model')"))
    await eventually(lambda: supervisor.state.restarts > 0, "it failed")
    assert "script: no such model" in caplog.messages


async def test_stderr_of_a_serving_child_is_read_but_not_logged(
    tmp_path: Path, supervise: Supervise, caplog: pytest.LogCaptureFixture
) -> None:
    """What a serving child says may quote a prompt; it must not block on a full pipe either."""
    gate = tmp_path / "gate"
    wait = f"import sys, time, pathlib\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
    supervisor = supervise(Script(tmp_path, READY + wait + "sys.stderr.write('a prompt\\n' * 20000); sys.exit(1)"))
    await ready(supervisor)
    gate.touch()
    await eventually(lambda: supervisor.state.restarts > 0, "it left after it had written everything")
    assert not [message for message in caplog.messages if "a prompt" in message]
