"""Exceptions in the log: where it happened, never with which data."""

from __future__ import annotations

from typing import NoReturn

import pytest

from plugins.contract.errors import CircuitOpen
from plugins.contract.failure import WITHHELD, describe

SECRET = "the prompt of a customer"


def _raise(exc: BaseException, cause: BaseException | None) -> NoReturn:
    raise exc from cause


def _raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        _raise(exc, cause)
    except BaseException as caught:  # noqa: BLE001
        return caught


@pytest.mark.requirement("OBS-1")
def test_message_of_our_own_error_is_shown() -> None:
    """A WattosError's message is safe by contract."""
    shown = describe(_raised(CircuitOpen("target a is not called for now")))
    assert shown["type"] == "CircuitOpen"
    assert shown["message"] == "target a is not called for now"
    assert "test_failure.py" in shown["stack"]
    assert "_raised" in shown["stack"]


@pytest.mark.parametrize(
    "exc",
    [
        ValueError(SECRET),
        KeyError(SECRET),
        _raised(CircuitOpen("safe"), cause=ValueError(SECRET)),
        ExceptionGroup(SECRET, [ValueError(SECRET), TypeError(SECRET)]),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    ],
)
def test_message_of_any_other_exception_is_withheld(exc: Exception) -> None:
    """Never `exc.args`: of the exception, its causes, or its group."""
    shown = describe(_raised(exc))
    assert SECRET not in str(shown)
    assert type(exc).__name__ in shown["stack"]


def test_causes_and_group_members_are_named() -> None:
    """The stack tells what led to the failure."""
    shown = describe(_raised(ExceptionGroup("", [KeyError(SECRET), OSError(SECRET)]), cause=TimeoutError()))
    assert "with: KeyError\nwith: OSError" in shown["stack"]
    assert "caused by: TimeoutError" in shown["stack"]
    assert shown["message"] == WITHHELD


def test_a_task_group_with_one_failure_is_shown_as_that_failure() -> None:
    """The type that an operator searches for is the real one."""
    assert describe(_raised(ExceptionGroup("", [KeyError(SECRET)])))["type"] == "KeyError"


def test_an_endless_chain_ends() -> None:
    """A loop of causes, or thousands of them, stays one short text."""
    first, second = ValueError(), TypeError()
    first.__cause__, second.__cause__ = second, first
    assert describe(first)["stack"].count("caused by") == 1
    deepest: Exception = ValueError()
    for _ in range(1000):
        outer = ValueError()
        outer.__cause__, deepest = deepest, outer
    assert describe(deepest)["stack"].count("\n") < 10
