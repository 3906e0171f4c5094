"""The server behind DATABASE_URL: its address as psycopg wants it, and whether it takes connections yet."""

from __future__ import annotations

import asyncio
import logging

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.database.errors import DatabaseUnavailable, DatabaseUnfit

logger = logging.getLogger("database")

CONNECT_TIMEOUT_S = 5
"""A server that is there answers in milliseconds; across data centres, in tenths of a second."""

WAIT_S = 5.0
"""A server that restarts beside us is there in 1 to 3 s. What takes longer is for whoever starts us to wait for."""

PING_EVERY_S = 0.2

UNREACHABLE = "the database cannot be reached: is DATABASE_URL right, is the server up?"


def async_url(url: str) -> URL:
    """Any `postgresql://…` as SQLAlchemy's psycopg wants it. Raises: DatabaseUnfit for anything else."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise DatabaseUnfit("DATABASE_URL must be postgresql://user:password@host:port/database") from exc
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseUnfit(f"DATABASE_URL must be postgresql://…, not {parsed.get_backend_name()}://…")
    return parsed.set(drivername="postgresql+psycopg")


def plain_url(url: str) -> str:
    """The same as libpq and psycopg themselves want it. Raises: DatabaseUnfit."""
    return async_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def wait_until_up(url: str, wait_s: float = WAIT_S) -> None:
    """Until the server takes connections; needs no valid login.

    Raises: DatabaseUnavailable after `wait_s`, DatabaseUnfit for a URL with options that libpq does not know.
    """
    try:
        address = make_conninfo(plain_url(url), connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.ProgrammingError as exc:
        raise DatabaseUnfit("DATABASE_URL has an option that PostgreSQL does not know") from exc
    deadline = asyncio.get_running_loop().time() + wait_s
    is_waiting = False
    while await asyncio.to_thread(pq.PGconn.ping, address.encode()) != pq.Ping.OK:
        if asyncio.get_running_loop().time() > deadline:
            raise DatabaseUnavailable(UNREACHABLE)
        if not is_waiting:
            logger.warning("waiting for the database")
            is_waiting = True
        await asyncio.sleep(PING_EVERY_S)
