"""What is process-wide is put back after each test; what Hypothesis remembers goes where pytest's own notes are."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

_NAMES = ("", "uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access", "asyncio", "httpx", "httpcore", "LiteLLM")


def pytest_configure(config: pytest.Config) -> None:
    """Its default, `.hypothesis` beside pyproject.toml, is warned about there, and warnings are errors."""
    if config.cache is not None:
        set_hypothesis_home_dir(config.cache.mkdir("hypothesis"))


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _NAMES]
    before = [([*logger.handlers], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
