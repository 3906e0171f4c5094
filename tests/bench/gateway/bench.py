"""`make bench`: the plan of a run. See docs/PERFORMANCE.md for what it found, and `--help` for its parts.

Without a choice of parts it measures all, keeps the numbers in docs/performance.json and writes the page and its
picture from them. With one (`--only`, `--case`, `--memory`, `--mixed`, `--bridge`) it prints JSON and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from bench.gateway import report, servers
from bench.gateway.answers import WrongAnswer
from bench.gateway.cases import ALL_CASES, Case, ServerName, case_named
from bench.gateway.machine import our_versions, their_versions, this_machine
from bench.gateway.measuring import Meter, say
from bench.gateway.results import Results
from server import ROOT

KEPT = ROOT / "docs" / "performance.json"
WORK = ROOT / ".bench"

QUICK_S, FULL_S = 1.5, 8.0
"""Of each case, server and round: all of the quick form in under 6 minutes, and steady to a few percent."""

N_ROUNDS = 3
FULL_COLD_STARTS = 3


class Asked(argparse.Namespace):
    full: bool
    only: ServerName | None
    case: list[Case]
    memory: bool
    mixed: bool
    bridge: bool
    rounds: int
    seconds: float | None
    calls: int
    env: list[str]
    litellm: Path
    json: Path | None
    report: Path | None

    @property
    def is_whole(self) -> bool:
        return not (self.only or self.case or self.has_parts)

    @property
    def has_parts(self) -> bool:
        return self.memory or self.mixed or self.bridge

    @property
    def cases(self) -> Sequence[Case]:
        return self.case or (() if self.has_parts else ALL_CASES)

    @property
    def seconds_each(self) -> float:
        return self.seconds or (FULL_S if self.full else QUICK_S)

    def wants(self, server: ServerName) -> bool:
        """The upstream is measured beside WattOS, to know what that adds."""
        return self.only is None or self.only == server or (self.only == "wattos" and server == "upstream")


def arguments() -> Asked:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"{FULL_S:g} s a case instead of {QUICK_S:g}")
    parser.add_argument("--only", choices=["wattos", "litellm"], help="that server alone")
    parser.add_argument("--case", action="append", default=[], type=case_named, help="as plain-60-10; repeatable")
    parser.add_argument("--memory", action="store_true", help="memory of WattOS over 100,000 calls")
    parser.add_argument("--mixed", action="store_true", help="a fixed load of half a core, with large prompts mixed in")
    parser.add_argument("--bridge", action="store_true", help="LLM_TRANSPORT=litellm beside litellm's SDK")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--seconds", type=float, help="of each case, server and round")
    parser.add_argument("--calls", type=int, default=100_000, help="of the memory run")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for WattOS; repeatable")
    proxy = WORK / "litellm" / "bin" / "litellm"
    parser.add_argument("--litellm", type=Path, default=proxy, help="the proxy's program")
    parser.add_argument("--json", type=Path, help="keep the numbers here too")
    parser.add_argument("--report", type=Path, metavar="FILE", help="only write the page, from these numbers")
    return parser.parse_args(namespace=Asked())


def main() -> int:
    asked = arguments()
    signal.signal(signal.SIGTERM, _leave)
    if asked.report:
        results = msgspec.json.decode(asked.report.read_bytes(), type=Results)
        report.write(results, KEPT.parent)
        return 0
    try:
        results = run(asked)
    except (servers.FailedToStart, WrongAnswer) as exc:
        say(f"bench: {exc}")
        return 1
    kept = msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
    if asked.json:
        asked.json.write_bytes(kept)
    if asked.is_whole:
        KEPT.write_bytes(kept)
        report.write(results, KEPT.parent)
        say(f"written: {KEPT}, {KEPT.parent / report.PAGE}")
    print(json.dumps(report.summary(results), indent=1))
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    """By the way of all exceptions, so that the servers are ended too."""
    sys.exit(128 + number)


def run(asked: Asked) -> Results:
    results = Results(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        form=("full" if asked.full else "quick") if asked.is_whole else "selected",
        n_rounds=asked.rounds,
        seconds=asked.seconds_each,
        machine=this_machine(),
        versions={"wattos": our_versions(), "litellm": their_versions(asked.litellm)},
    )
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="run-") as directory:
        measure(asked, results, Path(directory))
    return results


def measure(asked: Asked, results: Results, directory: Path) -> None:
    models, master_key = directory / "models.yaml", "sk-bench-master"
    ours = dict(pair.split("=", 1) for pair in asked.env)
    with servers.vendor() as vendor:
        servers.write_models(models, vendor.port, master_key)
        meter = Meter(results, vendor.port, asked.seconds_each)

        def start(stack: ExitStack, name: ServerName, number: int = 0, **env: str) -> servers.Measured:
            log = WORK / f"{name}.log"
            if name == "litellm":
                server = stack.enter_context(servers.litellm(asked.litellm, models, master_key, log))
            else:
                data = directory / f"data-{len(list(directory.iterdir()))}-{number}"
                server = stack.enter_context(servers.wattos(data, models, log, {**ours, **env}))
            meter.started(server, is_noted=not env)
            return server

        names: list[ServerName] = [name for name in ("litellm", "wattos") if asked.wants(name)]
        if asked.full and asked.is_whole:
            for name in names * (FULL_COLD_STARTS - 1):
                with ExitStack() as stack:
                    start(stack, name)
        if asked.cases or asked.mixed:
            with ExitStack() as stack:
                started = [start(stack, name) for name in names]
                if asked.wants("upstream"):
                    started.insert(0, vendor)
                for number in range(asked.rounds):
                    for case in asked.cases:
                        meter.measure(case, started, number)
                    if asked.mixed or asked.is_whole:
                        meter.mix(started, number)
        if asked.memory or asked.is_whole:
            with ExitStack() as stack:
                meter.grow(start(stack, "wattos"), asked.calls)
        if asked.bridge or asked.is_whole:
            with ExitStack() as stack:
                meter.bridge(start(stack, "wattos", LLM_TRANSPORT="litellm"), asked.rounds)
