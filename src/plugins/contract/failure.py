"""Exceptions as the log may show them: type and frames always, a message only where it is safe by contract.

`str(exc)` and `exc.args` hold prompts, rows and keys (a driver quotes the statement, a client the body), so they are
never read: only a `WattosError`'s own message is.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import cast

from plugins.contract.errors import WattosError

WITHHELD = "(not logged: it may hold data)"
_MAX_FRAMES = 40  # of each exception, innermost kept: deeper stacks repeat the framework
_MAX_CHAIN = 8  # causes and group members: a retry loop can chain without end


def describe(exc: BaseException) -> dict[str, str]:
    """pino's `err`: `type`, `message`, `stack` (innermost frame first, causes after it, no source lines, no values)."""
    while len(members := _members(exc)) == 1:  # a task group's wrapping says nothing
        (exc,) = members
    return {
        "type": type(exc).__qualname__,
        "message": exc.message if isinstance(exc, WattosError) else WITHHELD,
        "stack": "\n".join(_stack(exc)),
    }


def _stack(exc: BaseException) -> Iterator[str]:
    waiting: list[tuple[str, BaseException]] = [("", exc)]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_CHAIN:
        label, current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield f"{label}{_name(current)}" + (f": {current.message}" if isinstance(current, WattosError) else "")
        yield from reversed(list(_frames(current.__traceback__))[-_MAX_FRAMES:])
        waiting.extend(("with: ", member) for member in _members(current))
        cause = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if cause is not None:
            waiting.append(("caused by: ", cause))


def _members(exc: BaseException) -> tuple[BaseException, ...]:
    """Of a group; nothing of any other."""
    return cast("BaseExceptionGroup[BaseException]", exc).exceptions if isinstance(exc, BaseExceptionGroup) else ()


def _name(exc: BaseException) -> str:
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield f"    at {code.co_qualname} ({code.co_filename}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
