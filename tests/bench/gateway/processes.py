"""The kernel's books on a process and its descendants: CPU time and resident memory. Linux only."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

MB = 1_000_000
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2


class Cpu(msgspec.Struct, frozen=True):
    """Nanoseconds so far."""

    own_ns: int
    children_ns: int

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(self.own_ns - earlier.own_ns, self.children_ns - earlier.children_ns)


class Memory(msgspec.Struct, frozen=True):
    own_bytes: int
    """Resident set."""
    children_bytes: int
    """Proportional set: Postgres' processes share their buffers, which would else be counted in each."""


def process_ns(pid: int) -> int:
    """User and system time of all threads of a process, ended ones too, in ns: /proc/PID/schedstat leaves out threads
    that have ended, /proc/PID/stat counts 10 ms. The clock's number is made as clock_getcpuclockid(3) makes it."""
    return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:  # it has just ended
                continue
    return found[1:]


def _reaped_ns(pid: int) -> int:
    """Of children that have ended and been waited for, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * TICK_NS


def cpu(pid: int) -> Cpu:
    """Raises: OSError if the process itself is gone."""
    children_ns = _reaped_ns(pid)
    for child in descendants(pid):
        try:
            children_ns += process_ns(child) + _reaped_ns(child)
        except OSError:
            continue
    return Cpu(process_ns(pid), children_ns)


def _kilobytes(path: str, field: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def memory(pid: int) -> Memory:
    """Raises: OSError if the process itself is gone."""
    children_bytes = 0
    for child in descendants(pid):
        try:
            children_bytes += _kilobytes(f"/proc/{child}/smaps_rollup", "Pss") * 1024
        except OSError:
            continue
    return Memory(_kilobytes(f"/proc/{pid}/status", "VmRSS") * 1024, children_bytes)
