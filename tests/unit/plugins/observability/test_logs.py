"""The process's log output: one JSON object a line, off the loop, and never in the way."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler
from pathlib import Path

import pytest

from plugins.contract.errors import CircuitOpen, SettingsError
from plugins.contract.loggers import OWN
from plugins.contract.work import Work, doing
from plugins.observability.config import load
from plugins.observability.logs import BATCH, LogOutput
from plugins.observability.pino import python_level
from unit.plugins.harness import RecordingMeter, eventually, lines

SECRET = "sk-wattos-secret"


class Stuck(io.StringIO):
    """A reader that does not read, until released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.writing = threading.Event()

    def write(self, text: str) -> int:
        self.writing.set()
        self.released.wait()
        return super().write(text)


@pytest.fixture
def output() -> Iterator[tuple[LogOutput, io.StringIO]]:
    stream = io.StringIO()
    logs = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=stream)
    logs.install()
    yield logs, stream
    logs.stop()
    logs.uninstall()


@pytest.mark.requirement("OBS-1")
def test_every_loggers_line_has_pinos_shape(output: tuple[LogOutput, io.StringIO]) -> None:
    """level, time in epoch ms, pid, hostname, msg, context; `extra` beside them."""
    before_ms = int(time.time() * 1000)
    logging.getLogger("app.chat").warning("slow\ncall to %s", "a", extra={"durationMs": 7})
    (line,) = lines(output[1].getvalue())
    assert before_ms <= line.pop("time") <= time.time() * 1000
    assert line == {
        "level": 40,
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "context": "app.chat",
        "msg": "slow\ncall to a",
        "durationMs": 7,
    }


@pytest.mark.requirement("OBS-1")
@pytest.mark.parametrize(("level", "number"), [(5, 10), (10, 20), (20, 30), (30, 40), (40, 50), (50, 60)])
def test_levels_are_pinos_numbers(level: int, number: int) -> None:
    """10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal."""
    stream = io.StringIO()
    logs = LogOutput(1, capacity=100, drain_timeout_s=5, stream=stream)
    logs.install()
    logging.getLogger("app").log(level, "x")
    assert [line["level"] for line in lines(stream.getvalue())] == [number]


@pytest.mark.requirement("OBS-1")
def test_exceptions_are_logged_under_err_without_their_values(output: tuple[LogOutput, io.StringIO]) -> None:
    """`err` {type, message, stack}; another handler that formatted the traceback first changes nothing."""
    try:
        int(SECRET)
    except ValueError:
        logging.getLogger("app").exception("it broke")
    logging.getLogger("app").error({"msg": "it broke again"}, exc_info=CircuitOpen("a is not called"))
    first, second = lines(output[1].getvalue())
    assert set(first["err"]) == {"type", "message", "stack"}
    assert first["err"]["type"] == "ValueError"
    assert second["err"]["message"] == "a is not called"
    assert second["msg"] == "it broke again"
    assert SECRET not in output[1].getvalue()


def test_lines_of_a_request_carry_its_id(output: tuple[LogOutput, io.StringIO]) -> None:
    """Whatever logs while it works for a request can be found by the request's id, from the writing thread too."""
    output[0].start()
    with doing(Work({"reqId": "req-1"})):
        logging.getLogger("app").info("inside")
    logging.getLogger("app").info("outside")
    output[0].stop()
    inside, outside = lines(output[1].getvalue())
    assert inside["reqId"] == "req-1"
    assert "reqId" not in outside


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, {1: 2}, {None: object()}, float("nan"), {"a": {3, 4}}])
def test_odd_values_become_a_line_all_the_same(output: tuple[LogOutput, io.StringIO], value: object) -> None:
    """A record that cannot be encoded loses a value, not the line."""
    logging.getLogger("app").info("odd %s", "x", extra={"value": value})
    (line,) = lines(output[1].getvalue())
    assert line["msg"] == "odd x"


def test_a_broken_record_or_stream_is_counted_and_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing inside logging reaches the request, nor are the arguments printed elsewhere."""
    meter = RecordingMeter()
    stream = io.StringIO()
    logs = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=stream, dropped=meter.counter("dropped", ""))
    logs.handle(logging.LogRecord("app", logging.INFO, "", 0, "two %s %s", (SECRET,), None))
    stream.close()
    logs.handle(logging.LogRecord("app", logging.INFO, "", 0, "to nowhere", None, None))
    assert meter.total["dropped",] == 2
    assert SECRET not in capsys.readouterr().err


async def test_a_stuck_reader_holds_up_nobody() -> None:
    """Records over the bound are dropped and counted; what is kept is written once the reader reads on."""
    meter, stream = RecordingMeter(), Stuck()
    logs = LogOutput(
        logging.INFO, capacity=100, drain_timeout_s=0.05, stream=stream, dropped=meter.counter("dropped", "")
    )
    logs.start()
    log = logging.getLogger("app")
    log.info("first")
    await eventually(stream.writing.is_set)
    started_s = time.monotonic()
    for _ in range(150):
        log.info("x")
    logs.stop()
    assert time.monotonic() - started_s < 2
    assert meter.total["dropped",] == 50
    stream.released.set()
    await eventually(lambda: len(stream.getvalue().splitlines()) == 101)
    assert len(lines(stream.getvalue())) == 101
    logs.uninstall()


class Counting(io.StringIO):
    """Knows how many lines each writing had."""

    def __init__(self) -> None:
        super().__init__()
        self.n_lines: list[int] = []

    def write(self, text: str) -> int:
        self.n_lines.append(text.count("\n"))
        return super().write(text)


async def test_the_loops_lines_come_in_order_some_at_a_time() -> None:
    """So that the loop has turns between; those of other threads are written too, and at the end what is left."""
    stream = Counting()
    logs = LogOutput(logging.INFO, capacity=1000, drain_timeout_s=5, stream=stream)
    logs.start()
    log = logging.getLogger("app")
    for number in range(BATCH * 3 + 1):
        log.info("%d", number)
    await eventually(lambda: sum(stream.n_lines) == BATCH * 3 + 1)
    assert [line["msg"] for line in lines(stream.getvalue())] == [str(number) for number in range(BATCH * 3 + 1)]
    assert stream.n_lines == [BATCH, BATCH, BATCH, 1]
    await asyncio.to_thread(log.info, "elsewhere")
    log.info("the last")
    logs.stop()
    assert [line["msg"] for line in lines(stream.getvalue())][-2:] == ["elsewhere", "the last"]
    logs.uninstall()


def test_installed_twice_or_by_two_apps_writes_each_line_once() -> None:
    """The last app has the output, whoever had it before; uninstalling leaves logging as it was found."""
    root = logging.getLogger()
    root.addHandler(logging.StreamHandler(io.StringIO()))
    root.addHandler(QueueHandler(queue.Queue()))
    before = [*root.handlers]
    first, second = io.StringIO(), io.StringIO()
    one = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=first)
    two = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=second)
    one.install()
    two.install()
    two.install()
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info("GET /?key=%s", SECRET)
    assert first.getvalue() == ""
    assert [line["context"] for line in lines(second.getvalue())] == ["uvicorn.error"]
    assert not any(type(handler) in (logging.StreamHandler, QueueHandler) for handler in root.handlers)
    two.uninstall()
    one.uninstall()
    assert root.handlers == before


def test_standard_output_is_looked_up_when_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream of its own, the output follows `sys.stdout`."""
    logs = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5)
    logs.install()
    logging.getLogger("app").info("here")
    logs.uninstall()
    assert lines(capsys.readouterr().out)[0]["msg"] == "here"
    assert sys.stdout is not None


@pytest.mark.parametrize(
    ("text", "level"), [("INFO", 20), ("warn", 30), (" Warning", 30), ("trace", 5), ("fatal", 50), ("error", 40)]
)
def test_log_level_takes_pinos_and_pythons_names_in_any_case(text: str, level: int) -> None:
    """`LOG_LEVEL` is forgiving about case."""
    assert python_level(load({"LOG_LEVEL": text})[1].log_level) == level


def test_start_is_refused_for_an_unknown_log_level() -> None:
    """A misspelt level names the variable."""
    with pytest.raises(SettingsError, match="LOG_LEVEL='verbose'"):
        load({"LOG_LEVEL": "verbose"})


def test_below_info_only_our_own_loggers_write() -> None:
    """At debug a vendor's library writes whole prompts. Every logger of ours is known as one."""
    stream = io.StringIO()
    logs = LogOutput(logging.DEBUG, capacity=100, drain_timeout_s=5, stream=stream)
    logs.install()
    try:
        logging.getLogger("openai._base_client").debug("a prompt")
        logging.getLogger("app.chat").debug("a step")
    finally:
        logs.stop()
        logs.uninstall()
    assert [line["msg"] for line in lines(stream.getvalue())] == ["a step"]
    sources = (Path(__file__).parents[4] / "src").rglob("*.py")
    named = {name for path in sources for name in re.findall(r'getLogger\("([^"]+)"\)', path.read_text())}
    assert {name.partition(".")[0] for name in named} - {"LiteLLM", "uvicorn"} <= set(OWN)
