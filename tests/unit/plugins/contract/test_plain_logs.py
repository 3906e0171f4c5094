"""What the logs are while the observability plugin is off: plain, and as discreet."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from plugins.contract.plain_logs import PlainLogs
from secrets_of_all_kinds import BY_SHAPE, telling_part


@pytest.fixture
def logs() -> Iterator[PlainLogs]:
    logs = PlainLogs()
    logs.install()
    logs.start()
    yield logs
    logs.stop()
    logs.uninstall()


@pytest.mark.usefixtures("logs")
def test_lines_are_plain_from_info_upwards(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, logger, text; on standard output."""
    logging.getLogger("app").info("ready for %s", "all")
    logging.getLogger("app").debug("not this")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO app: ready for all\n", capsys.readouterr().out)


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("kind", BY_SHAPE)
def test_no_secret_is_written(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """In a message, or as the text of an exception."""
    secret = BY_SHAPE[kind]
    logging.getLogger("app").warning("sent %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("app").exception("it failed")
    written = "".join(capsys.readouterr())
    assert telling_part(secret) not in written
    assert "ValueError" in written
    assert "test_plain_logs.py" in written


def test_concealed_texts_are_blacked_out(logs: PlainLogs, capsys: pytest.CaptureFixture[str]) -> None:
    """What the process holds itself, whatever it looks like."""
    logs.conceal(["correct horse battery"])
    logging.getLogger("app").info("it is correct horse battery, and correct%20horse%20battery")
    assert capsys.readouterr().out.endswith("it is …, and …\n")


def test_a_record_that_cannot_be_written_breaks_nothing(logs: PlainLogs, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor are its arguments printed elsewhere. (Handed over directly: pytest's own handlers would raise.)"""
    logs.handle(logging.LogRecord("app", logging.INFO, __file__, 1, "two %s %s", ("secret-argument",), None))
    assert capsys.readouterr() == ("", "")
