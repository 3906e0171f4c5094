"""What is counted of statements and connections; of a statement its operation and table, never its values."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.pool import QueuePool

from plugins.contract.nulls import NullMeter, NullSlowLog
from plugins.contract.ports import Meter, SlowLog

OPERATIONS = ("select", "insert", "update", "delete", "other")
RESULTS = ("ok", "error")

DURATION_BUCKETS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 30_000)
"""From a row by its key (0.3 ms here) to the statement time-out."""

_BEGAN_S = "wattos_began_s"
_FIRST_WORD = re.compile(r"\s*(?:--[^\n]*\n\s*)*(\w+)")
_WRITES = re.compile(r"\b(insert|update|delete)\b", re.I)
_TABLE = re.compile(r"\b(?:from|into|update|join)\s+(?:only\s+)?([a-z_][\w.]*)", re.I)


class Statement(msgspec.Struct, frozen=True):
    """`operation`: one of OPERATIONS. `name`: with its first table, `select api_keys`, for the log of slow ones."""

    operation: str
    name: str


@lru_cache(maxsize=1024)  # by text: we have some dozens, and lists of values have as many forms as lengths
def read_statement(sql: str) -> Statement:
    """What a statement does, as well as its words tell."""
    first = _FIRST_WORD.match(sql)
    operation = first[1].lower() if first else "other"
    if operation == "with":  # what it does with it: a write anywhere in it makes it one
        writes = _WRITES.search(sql)
        operation = writes[1].lower() if writes else "select"
    if operation not in OPERATIONS:
        operation = "other"
    table = _TABLE.search(sql) if operation != "other" else None
    return Statement(operation, f"{operation} {table[1].lower()}" if table else operation)


class DatabaseInstruments:
    """The counters of one engine."""

    def __init__(self, meter: Meter | None = None, slow_log: SlowLog | None = None) -> None:
        meter = meter or NullMeter()
        self._slow_log = slow_log or NullSlowLog()
        self._queries = meter.counter(
            "db_queries_total",
            "SQL statements of requests and jobs; the job queue's own and the migrations' are not counted.",
            ("operation", "result"),
        )
        self._duration_ms = meter.histogram(
            "db_query_duration_ms",
            "Milliseconds from sending a statement to its result.",
            ("operation",),
            buckets=DURATION_BUCKETS_MS,
        )
        self._connections = meter.gauge("db_pool_connections", "Connections of the pool, by state.", ("state",))
        self._limit = meter.gauge("db_pool_max_connections", "How many connections the pool may have at once.")
        self._waiting = meter.gauge(
            "db_pool_waiting", "Transactions that wait for a connection, or for the server to answer on it."
        )
        self._n_waiting = 0
        self._n_unanswered = 0
        self._answered_at_s = time.perf_counter()

    def is_silent(self, n_asked: int, for_s: float) -> bool:
        """So many statements were sent since one was last answered, which is so long ago."""
        return self._n_unanswered >= n_asked and time.perf_counter() - self._answered_at_s >= for_s

    def listen_to(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._began)
        event.listen(engine, "after_cursor_execute", self._succeeded)
        event.listen(engine, "handle_error", self._failed)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Around the check-out of a connection."""
        self._n_waiting += 1
        try:
            yield
        finally:
            self._n_waiting -= 1

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Around a transaction, its connection's check-out included."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self._slow_log.took("transaction", "transaction", (time.perf_counter() - began_s) * 1000)

    def sample(self, pool: object) -> None:
        """Set the gauges. `pool`: the engine's."""
        if isinstance(pool, QueuePool):
            self._connections.set(pool.checkedout(), "in_use")
            self._connections.set(pool.checkedin(), "idle")
            self._limit.set(pool.size() + pool._max_overflow)  # pyright: ignore[reportPrivateUsage]  # it has no other name
        self._waiting.set(self._n_waiting)

    def _began(self, connection: Any, *_: Any) -> None:
        connection.info[_BEGAN_S] = time.perf_counter()
        self._n_unanswered += 1

    def _answered(self) -> None:
        self._n_unanswered, self._answered_at_s = 0, time.perf_counter()

    def _succeeded(self, connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        self._answered()
        self._over(connection.info, sql, "ok")

    def _failed(self, context: ExceptionContext) -> None:
        if not context.is_disconnect:
            self._answered()
        if context.connection is not None and context.statement is not None:
            self._over(context.connection.info, context.statement, "error")

    def _over(self, info: dict[Any, Any], sql: str, result: str) -> None:
        began_s = info.pop(_BEGAN_S, None)
        if began_s is None:
            return
        duration_ms = (time.perf_counter() - began_s) * 1000
        statement = read_statement(sql)
        self._queries.add(1, statement.operation, result)
        self._duration_ms.observe(duration_ms, statement.operation)
        self._slow_log.took("statement", statement.name, duration_ms)
