"""What bypasses loggers: exceptions that nobody catches, and Python's warnings."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from plugins.observability.logs import LogOutput
from unit.plugins.harness import eventually, lines

SECRET = "the prompt of a customer"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=stream)
    logs.start()
    yield stream
    logs.stop()
    logs.uninstall()


class Unraisable:
    def __del__(self) -> None:
        raise ValueError(SECRET)


def _fail() -> None:
    raise ValueError(SECRET)


@pytest.mark.requirement("OBS-1")
async def test_exceptions_that_nobody_caught_are_lines_without_their_values(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a thread, of a finalizer, of the main thread: the interpreter would print their text."""
    thread = threading.Thread(target=_fail)
    thread.start()
    thread.join()
    Unraisable()
    sys.excepthook(ValueError, ValueError(SECRET), None)
    await eventually(lambda: len(stream.getvalue().splitlines()) == 3)
    found = lines(stream.getvalue())
    assert [line["level"] for line in found] == [50, 50, 60]
    assert {line["err"]["type"] for line in found} == {"ValueError"}  # type: ignore[index]
    assert SECRET not in stream.getvalue() + "".join(capsys.readouterr())


@pytest.mark.requirement("OBS-1")
async def test_warnings_are_lines(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is secret in them blacked out."""
    with warnings.catch_warnings():
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.simplefilter("always")
        warnings.warn("old: password=hunter2-hunter2", UserWarning, stacklevel=1)
        await eventually(lambda: "py.warnings" in stream.getvalue())
    (line,) = lines(stream.getvalue())
    assert line["level"] == 40
    assert "password=…" in str(line["msg"])
    assert "hunter2" not in capsys.readouterr().err


def test_the_hooks_are_put_back() -> None:
    """After the lifespan the interpreter is as it was."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    logs = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=io.StringIO())
    logs.start()
    assert sys.excepthook is not before[0]
    logs.stop()
    logs.uninstall()
    assert (sys.excepthook, threading.excepthook, sys.unraisablehook) == before
