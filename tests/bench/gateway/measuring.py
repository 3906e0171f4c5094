"""One measurement after the other, each noted in the results."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from bench.gateway.answers import check, check_hit
from bench.gateway.cases import ALONE, LARGE_ALONE, LARGE_BYTES, PLAIN, SMALL_BYTES, Case, Job, Offer, Outcome
from bench.gateway.processes import Memory, cpu, memory
from bench.gateway.results import Bridge, Growth, Mixed, Results, Run, per_call_ms
from bench.gateway.servers import Measured, our_environment

DIRECT_CASES = (ALONE, msgspec.structs.replace(ALONE, mode="stream"))
"""What the upstream is measured with itself: where latency is compared with it."""

CORE_SHARE = 0.5
"""Of the one core that one process of Python can use: the fixed load."""

LARGE_SHARE = 0.1
"""One call in ten of the mixed load has a prompt of 100 kB."""

MIXED_CONNECTIONS = 256
CALIBRATION_S = 1.0

WARM_UP_CALLS, WARM_UP_STREAMS = 300, 30

KINDS = ({"n_calls": 900}, {"n_calls": 90, "is_stream": True}, {"n_calls": 10, "prompt_bytes": LARGE_BYTES})
"""Of each 1,000 calls of the memory run."""

N_STEPS = 20
"""The memory run is made of so many steps, in each of which calls of all kinds come."""

LOAD_TIMEOUT_S = 900.0
"""A load that has not ended by then hangs: 100,000 calls take LiteLLM 730 s."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load(job: Job) -> list[Outcome]:
    """Run a load to its end. Returns: one outcome, or one for each offer."""
    command = [sys.executable, "-m", "bench.gateway.load"]
    data = msgspec.json.encode(job)
    done = subprocess.run(
        command, env=our_environment(), input=data, stdout=subprocess.PIPE, timeout=LOAD_TIMEOUT_S, check=True
    )
    return msgspec.json.decode(done.stdout, type=list[Outcome])


class Meter:
    """Measures running servers."""

    def __init__(self, results: Results, vendor_port: int, seconds: float) -> None:
        self._results = results
        self._vendor_port = vendor_port
        self._seconds = seconds

    def started(self, server: Measured, *, is_noted: bool) -> None:
        """Note its cold start, see that its answers are whole, and make it warm."""
        if is_noted:
            self._results.cold_start_s.setdefault(server.name, []).append(server.cold_start_s)
            self._results.idle[server.name] = memory(server.pid)
        say(f"{server.name}: pid {server.pid}, port {server.port}, first answer after {server.cold_start_s:.2f} s")
        check(server)
        for n_calls, is_stream in ((WARM_UP_CALLS, False), (WARM_UP_STREAMS, True)):
            load(Job(port=server.port, key=server.key, n_connections=10, n_calls=n_calls, is_stream=is_stream))

    def measure(self, case: Case, servers: Sequence[Measured], number: int) -> None:
        """One round of one case, the servers in turns."""
        for server in servers if number % 2 else reversed(servers):
            if (server.name == "upstream" and case not in DIRECT_CASES) or (case.is_hit and server.name != "wattos"):
                continue
            if case.is_hit:
                check_hit(server)
            run = self._run(server, case, number, self._seconds)
            self._results.runs.append(run)
            latency = run.outcome.latency_ms
            say(
                f"round {number + 1}  {case.name:<15}{server.name:<9}{run.cpu_ms:8.3f} ms CPU"
                f"{run.outcome.per_second:10.1f}/s   p50 {latency.p50 if latency else float('nan'):9.3f}"
                f"   p99 {latency.p99 if latency else float('nan'):9.3f} ms   {run.outcome.errors or ''}"
            )

    def _run(self, server: Measured, case: Case, number: int, seconds: float) -> Run:
        job = Job(
            port=server.port,
            key=server.key,
            n_connections=case.n_connections,
            is_stream=case.is_stream,
            is_hit=case.is_hit,
            prompt_bytes=case.prompt_bytes,
            seconds=seconds,
        )
        before = cpu(server.pid)
        [outcome] = load(job)
        used = cpu(server.pid) - before
        return Run(case=case, server=server.name, round=number, outcome=outcome, cpu=used, memory=memory(server.pid))

    def mix(self, servers: Sequence[Measured], number: int) -> None:
        """The fixed load, by what this server's calls cost when they come one by one, as most do then."""
        for server in servers:
            if server.name == "upstream":
                continue
            small_ms, large_ms = (self._cost_ms(server, case, number) for case in (ALONE, LARGE_ALONE))
            per_second = CORE_SHARE * 1000 / ((1 - LARGE_SHARE) * small_ms + LARGE_SHARE * large_ms)
            small = Offer("small", SMALL_BYTES, round(per_second * (1 - LARGE_SHARE), 2))
            large = Offer("large", LARGE_BYTES, round(per_second * LARGE_SHARE, 2))
            [alone] = load(self._open_job(server, small))
            before, since = cpu(server.pid), time.monotonic()
            both = load(self._open_job(server, small, large))
            core_share = (cpu(server.pid) - before).own_ns / 1e9 / (time.monotonic() - since)
            mixed = Mixed(
                server=server.name,
                round=number,
                offered_per_second={"small": small.per_second, "large": large.per_second},
                core_share=round(core_share, 3),
                alone=alone,
                small=both[0],
                large=both[1],
            )
            self._results.mixed.append(mixed)
            p99s = [f"{o.label} {o.latency_ms.p99 if o.latency_ms else float('nan'):.2f}" for o in (alone, *both)]
            say(f"round {number + 1}  mixed          {server.name:<9}{per_second:8.1f}/s   p99 ms: {', '.join(p99s)}")

    def _open_job(self, server: Measured, *offers: Offer) -> Job:
        return Job(
            port=server.port,
            key=server.key,
            n_connections=MIXED_CONNECTIONS,
            seconds=2 * self._seconds,
            offers=offers,
        )

    def _cost_ms(self, server: Measured, case: Case, number: int) -> float:
        known = [r for r in self._results.runs if (r.server, r.case, r.round) == (server.name, case, number)]
        return (known[-1] if known else self._run(server, case, number, CALIBRATION_S)).cpu_ms

    def grow(self, server: Measured, n_calls: int) -> None:
        """Memory over many calls of all kinds, on a server that has had none but the warm-up's."""
        rounds = max(1, n_calls // 1000 // N_STEPS)
        at: list[Memory] = []
        n_errors = 0
        for step in range(N_STEPS):
            for kind in KINDS:
                job = msgspec.convert({"port": server.port, "key": server.key, "n_connections": 10, **kind}, Job)
                [outcome] = load(msgspec.structs.replace(job, n_calls=(job.n_calls or 0) * rounds))
                n_errors += outcome.n_errors
            at.append(memory(server.pid))
            say(f"memory   {(step + 1) * rounds * 1000:>7} calls   {at[-1].own_bytes / 1e6:.1f} MB")
        self._results.growth = Growth(
            n_calls=N_STEPS * rounds * 1000, n_errors=n_errors, at_half=at[N_STEPS // 2 - 1], at_end=at[-1]
        )

    def bridge(self, server: Measured, n_rounds: int) -> None:
        """The server goes through litellm. Its SDK alone beside it, in turns."""
        sdk_ms: list[float] = []
        wattos_ms: list[float] = []
        for _ in range(n_rounds):
            command = [sys.executable, "-m", "bench.gateway.sdk", str(self._vendor_port), str(self._seconds)]
            done = subprocess.run(
                command, env=our_environment(), stdout=subprocess.PIPE, timeout=LOAD_TIMEOUT_S, check=True
            )
            sdk_ms.append(round(json.loads(done.stdout)["cpu_ms"], 4))
            run = self._run(server, PLAIN, 0, self._seconds)
            wattos_ms.append(round(per_call_ms(run.cpu.own_ns, run.outcome), 4))
            say(f"bridge   SDK {sdk_ms[-1]:.3f} ms CPU   wattos {wattos_ms[-1]:.3f} ms   {run.outcome.errors or ''}")
        self._results.bridge = Bridge(sdk_ms=sdk_ms, wattos_ms=wattos_ms)
