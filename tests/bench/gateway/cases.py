"""What is measured: the cases by name, and what a load process is told and tells."""

from __future__ import annotations

from typing import Literal

import msgspec

MODEL = "mock-model"
"""The alias in both servers' configuration, and the upstream's own name for it."""

SMALL_BYTES = 60
LARGE_BYTES = 100_000
N_CHUNKS = 100
"""Content chunks of a streamed answer; each is one token of the plain one."""

Size = Literal["60", "100k"]
SIZES: dict[Size, int] = {"60": SMALL_BYTES, "100k": LARGE_BYTES}
CONNECTIONS = (1, 10, 64)

Mode = Literal["plain", "stream", "hit"]
"""A hit is a plain call that was answered before, with the same prompt: of WattOS alone."""

ServerName = Literal["wattos", "litellm", "upstream"]


class Case(msgspec.Struct, frozen=True):
    """One closed loop: every connection sends its next request when it has the answer to the last."""

    mode: Mode
    size: Size
    n_connections: int

    @property
    def name(self) -> str:
        return f"{self.mode}-{self.size}-{self.n_connections}"

    @property
    def prompt_bytes(self) -> int:
        return SIZES[self.size]

    @property
    def is_stream(self) -> bool:
        return self.mode == "stream"

    @property
    def is_hit(self) -> bool:
        return self.mode == "hit"


PLAIN, STREAM, ALONE = Case("plain", "60", 10), Case("stream", "60", 10), Case("plain", "60", 1)
HIT = Case("hit", "60", 10)
LARGE, LARGE_ALONE = Case("plain", "100k", 10), Case("plain", "100k", 1)
"""The cases that the bars speak of."""

ALL_CASES = (*(Case(mode, size, n) for mode in ("plain", "stream") for size in SIZES for n in CONNECTIONS), HIT)


def case_named(name: str) -> Case:
    """Raises: ValueError, with the form that names have."""
    mode, _, rest = name.partition("-")
    size, _, n_connections = rest.partition("-")
    try:
        return msgspec.convert({"mode": mode, "size": size, "n_connections": int(n_connections)}, Case)
    except (ValueError, msgspec.ValidationError):
        raise ValueError(f"{name}: a case is plain|stream|hit, 60|100k and connections, as in plain-60-10") from None


class Offer(msgspec.Struct, frozen=True):
    """Part of an open loop: so many requests a second, evenly spaced, whether or not answers come."""

    label: str
    prompt_bytes: int
    per_second: float


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a load process shall do. It ends after `seconds` or `n_calls`, whichever is set; `offers` make it an open
    loop, in which `n_connections` is the most that are opened."""

    port: int
    key: str
    n_connections: int
    is_stream: bool = False
    is_hit: bool = False
    """The same prompt each time, and the answer may come from the cache."""
    prompt_bytes: int = SMALL_BYTES
    seconds: float | None = None
    n_calls: int | None = None
    offers: tuple[Offer, ...] = ()
    timeout_s: float = 60.0
    """Of one request: the `request_timeout` of both servers."""


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds; percentiles by nearest rank, out of all values."""

    p50: float
    p90: float
    p99: float
    max: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of request came to."""

    label: str
    n_calls: int
    """Answers that were whole and good."""
    seconds: float
    """From the first request to the last answer."""
    errors: dict[str, int]
    """By kind: `status_500`, `connect`, `reset`, `cut`, `timeout`, `malformed`, `no_done` (of a stream)."""
    latency_ms: Spread | None
    """Until the last byte. In an open loop from the moment the request was due."""
    first_byte_ms: Spread | None
    """Until the first byte of the body. Streams only."""

    @property
    def per_second(self) -> float:
        return self.n_calls / self.seconds if self.seconds else 0.0

    @property
    def n_errors(self) -> int:
        return sum(self.errors.values())


def spread(values_s: list[float]) -> Spread | None:
    """Nearest-rank percentiles. Returns: None if there is none."""
    if not values_s:
        return None
    ordered = sorted(values_s)

    def at(share: float) -> float:
        rank = max(1, -(-int(share * 1000) * len(ordered) // 1000))
        return round(ordered[rank - 1] * 1000, 4)

    return Spread(p50=at(0.5), p90=at(0.9), p99=at(0.99), max=round(ordered[-1] * 1000, 4))
