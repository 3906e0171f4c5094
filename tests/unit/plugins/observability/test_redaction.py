"""Every kind of secret in every place of a log record: none is ever written."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest

from plugins.contract.errors import WattosError
from plugins.observability.logs import LogOutput
from secrets_of_all_kinds import BY_NAME, BY_SHAPE, telling_part

logger = logging.getLogger("app.test")

SECRETS = {**BY_SHAPE, **{f"named {name}": f"{name}: {value}" for name, value in BY_NAME.items()}}


def _raise(exc: BaseException) -> None:
    try:
        raise exc
    except BaseException:
        logger.exception("it failed")


def _chain(secret: str) -> None:
    try:
        try:
            raise ValueError(secret)
        except ValueError as exc:
            raise WattosError(f"the vendor says {secret}") from exc
    except WattosError as exc:
        exc.add_note(secret)
        logger.exception("chained")


PLACES: dict[str, Callable[[str], None]] = {
    "message": lambda secret: logger.warning(f"sent {secret} away"),
    "arguments": lambda secret: logger.warning("sent %s away", secret),
    "extra": lambda secret: logger.warning("sent", extra={"detail": secret}),
    "nested": lambda secret: logger.warning("sent", extra={"detail": {"list": [1, {"deep": secret}]}}),
    "key": lambda secret: logger.warning("sent", extra={"detail": {secret: 1}}),
    "header pairs": lambda secret: logger.warning("%s", [(b"authorization", secret.encode()), (b"host", b"h")]),
    "exception": lambda secret: _raise(ValueError(secret)),
    "own error": lambda secret: _raise(WattosError(secret)),
    "group": lambda secret: _raise(ExceptionGroup(secret, [ValueError(secret), WattosError(secret)])),
    "chain and note": _chain,
    "logger's name": lambda secret: logging.getLogger(secret.replace(".", "_")).warning("hello"),
    "json": lambda secret: logger.warning('{"error": "%s"}', secret),
    "escaped json": lambda secret: logger.warning('{"error": "{\\"detail\\": \\"%s\\"}"}', secret),
    "stack": lambda secret: logger.warning("here", stack_info=True, extra={"x": secret}),
}


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs = LogOutput(logging.INFO, capacity=100, drain_timeout_s=5, stream=stream)
    logs.install()
    yield stream
    logs.stop()
    logs.uninstall()


@pytest.mark.requirement("OBS-1")
@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_written_wherever_it_stands(output: io.StringIO, place: str, kind: str) -> None:
    """The line is there, the secret is not."""
    secret = SECRETS[kind]
    if place == "logger's name" and kind in {"jwt", "url", "pem"}:
        pytest.skip("dots make a hierarchy of loggers: such a name cannot be written down")
    PLACES[place](secret)
    written = output.getvalue()
    assert written.count("\n") == 1
    value = BY_NAME[kind.removeprefix("named ")] if kind.startswith("named ") else secret
    assert telling_part(value) not in written


@pytest.mark.parametrize("name", BY_NAME)
def test_a_field_with_a_secrets_name_is_blacked_out_whole(output: io.StringIO, name: str) -> None:
    """Whatever its value looks like."""
    logger.warning("sent", extra={"request": {name: BY_NAME[name], "model": "gpt"}})
    assert BY_NAME[name] not in output.getvalue()
    assert '"model":"gpt"' in output.getvalue()


def test_what_is_no_secret_stays_readable(output: io.StringIO) -> None:
    """Masking too much makes a log useless."""
    logger.warning("target openai/gpt-4o failed: upstream_timeout", extra={"inputTokens": 7, "keyId": "key_1"})
    written = output.getvalue()
    assert "target openai/gpt-4o failed: upstream_timeout" in written
    assert '"inputTokens":7' in written
    assert '"keyId":"key_1"' in written
