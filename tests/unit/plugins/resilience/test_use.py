"""The guard without the web server, and the example of docs/RESILIENCE.md."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from plugins.contract.breakers import BreakerStatus
from plugins.contract.errors import CircuitOpen, RetryableError
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.use import Guarded, standalone
from server import ROOT

pytestmark = pytest.mark.requirement("RES-1")

EXAMPLE = ROOT / "docs" / "examples" / "guarded_calls.py"


def quick(**settings: int) -> Guarded:
    return standalone(ResilienceSettings(circuit_breaker_failure_threshold=2, retry_initial_delay=0, **settings))


async def test_a_blocks_outcome_is_the_dependencys() -> None:
    """Two failures open it; then the block does not begin."""
    guard = quick()
    for _ in range(2):
        with pytest.raises(RetryableError, match="down"):
            async with guard("a"):
                raise RetryableError("down")
    entered = False
    with pytest.raises(CircuitOpen):
        async with guard("a"):
            entered = True
    assert not entered
    assert guard.status("a").state == "open"
    async with guard("b"):
        pass


@pytest.mark.parametrize("exc", [ValueError("bug"), asyncio.CancelledError()])
async def test_a_block_that_ends_otherwise_says_nothing(exc: BaseException) -> None:
    """Neither for nor against."""
    guard = quick()
    for _ in range(3):
        with pytest.raises(type(exc)):
            async with guard("a"):
                raise exc
    assert guard.status("a") == BreakerStatus(state="closed")


async def test_a_protected_function_keeps_its_name_and_its_arguments() -> None:
    """And is tried again only where it says so."""
    guard, n_calls = quick(), 0

    @guard.protect("a", retry=True)
    async def again(text: str, *, times: int) -> str:
        """Says it."""
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise RetryableError("down")
        return text * times

    @guard.protect("b")
    async def once() -> None:
        raise RetryableError("down")

    assert await again("ab", times=2) == "abab"
    assert (getattr(again, "__name__", ""), again.__doc__) == ("again", "Says it.")
    with pytest.raises(RetryableError):
        await once()
    assert guard.status("b").n_failures == 1


def report() -> Callable[[Callable[[], Awaitable[str]]], Awaitable[list[str]]]:
    spec = importlib.util.spec_from_file_location("guarded_calls", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.report  # type: ignore[no-any-return]


async def test_the_example_does_what_it_says() -> None:
    """Away: failures until the breaker opens, then nobody asks. There: answers."""

    async def away() -> str:
        raise ConnectionError

    async def there() -> str:
        return "sunny"

    assert await report()(away) == ["failed", "failed", "not asked, for another 60 s", "not asked", "open"]
    assert await report()(there) == ["sunny"] * 4 + ["closed"]


def test_the_example_runs_by_itself_and_stands_in_the_page() -> None:
    """Without the web framework: who guards a call in a script need not load it."""
    check = "import sys, runpy; runpy.run_path(sys.argv[1], run_name='__main__'); assert 'litestar' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", check, EXAMPLE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "'open'" in run.stdout
    assert f"```python\n{EXAMPLE.read_text()}```" in (ROOT / "docs" / "RESILIENCE.md").read_text()
