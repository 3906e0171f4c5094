"""A tenant's calls as a file and in pages: all of them, each once, whatever is entered meanwhile."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from gateway import Gateway, running_gateway
from postgres import Cluster

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
N_MANY = 40_000
"""10 MB: more than sockets hold."""
MANY = """
insert into calls (tenant_id, id, time, model, endpoint, outcome, attempts, is_estimate, input_tokens, cost_nusd)
select %(tenant)s,
       (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n), 19, '0'))::uuid, at,
       'model', 'chat/completions', 'ok', 1, false, n, n
from (select n, %(first)s::timestamptz + n * interval '1 second' as at from generate_series(1, %(calls)s) as n) as made
"""


def call_at(moment: datetime) -> UUID:
    """A UUIDv7 of that time."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | random.getrandbits(60))


class Stack:
    """A gateway on a database whose rows a test may make."""

    def __init__(self, gateway: Gateway, database: str) -> None:
        self.gateway = gateway
        self.database = database

    def execute(self, statement: str, values: dict[str, Any] | None = None) -> None:
        async def run() -> None:
            async with await psycopg.AsyncConnection.connect(self.database) as connection:
                await connection.execute(statement.encode(), values)

        asyncio.run(run())


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    database = asyncio.run(cluster.create_database())
    env = {"DATABASE_URL": database, "LOCAL_MODELS_ENABLED": "false"}
    with running_gateway(tmp_path_factory.mktemp("export"), env) as gateway:
        made = Stack(gateway, database)
        for month in (2, 3, 4):
            made.execute("select make_calls_partition(%(at)s)", {"at": datetime(2026, month, 1, tzinfo=UTC)})
        yield made


class Tenant:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        slug = f"x-{uuid4().hex[:8]}"
        self.http = stack.gateway.http(stack.gateway.server.make_key(slug, scopes=["usage:read"]))
        with stack.gateway.server.admin() as api:
            tenants = api.get("/api/v1/tenants", params={"limit": 100}).json()["data"]
        self.id = UUID(hex=next(one["id"] for one in tenants if one["slug"] == slug).removeprefix("ten_"))

    def enter(self, moment: datetime = NOW, **fields: object) -> str:
        """A call of that time, as if it had just been moved from a journal. Returns: its id."""
        row = {
            "tenant_id": self.id,
            "id": call_at(moment),
            "time": moment,
            "model": "gpt",
            "endpoint": "chat/completions",
            "outcome": "ok",
            "attempts": 1,
            "is_estimate": False,
            **fields,
        }
        names = ", ".join(row)
        self.stack.execute(f"insert into calls ({names}) values ({', '.join(f'%({name})s' for name in row)})", row)
        return f"call_{row['id'].hex}"  # type: ignore[attr-defined]

    def enter_many(self) -> None:
        self.stack.execute(MANY, {"tenant": self.id, "first": NOW.replace(day=1), "calls": N_MANY})

    def export(self, **query: str) -> httpx.Response:
        days = {"since": "2026-02-01", "until": "2026-04-30"}
        return self.http.get("/api/v1/usage/export", params={**days, **query})

    def page(self, **query: str | int) -> dict[str, Any]:
        return dict(self.http.get("/api/v1/usage", params=query).raise_for_status().json())

    def ids(self, **query: str | int) -> list[str]:
        return [row["id"] for row in self.page(**query)["data"]]


@pytest.fixture
def tenant(stack: Stack) -> Iterator[Tenant]:
    made = Tenant(stack)
    yield made
    made.http.close()


def test_a_file_has_all_calls_of_the_days_oldest_first(tenant: Tenant) -> None:
    """To the millisecond, and across months. In both forms the columns are those of the list."""
    first = datetime(2026, 2, 28, tzinfo=UTC)
    moments = [first - timedelta(milliseconds=1), first, NOW, datetime(2026, 4, 1, 23, 59, 59, 999_000, UTC)]
    ids = [tenant.enter(moment) for moment in [*moments, datetime(2026, 4, 2, tzinfo=UTC)]]
    other = Tenant(tenant.stack)
    other.enter()
    other.http.close()
    days = {"since": "2026-02-28", "until": "2026-04-01"}
    lines = [json.loads(line) for line in tenant.export(format="jsonl", **days).raise_for_status().text.splitlines()]
    rows = [*csv.DictReader(io.StringIO(tenant.export(**days).raise_for_status().text, newline=""))]
    assert [line["id"] for line in lines] == [row["id"] for row in rows] == ids[1:4]
    assert lines[::-1] == tenant.page(**days)["data"]
    assert list(rows[0]) == list(lines[0])


def test_csv_is_as_rfc_4180_has_it(tenant: Tenant) -> None:
    """CRLF, quotes doubled, a header also where there is nothing; null is empty, numbers are not rounded."""
    header = tenant.export().content
    assert header.startswith(b"id,time,tenant_id,")
    assert header.count(b"\r\n") == 1
    model = 'a "quoted", model\nin two lines'
    tenant.enter(model=model, cost_nusd=2**53, latency_ms=0.1, is_estimate=True)
    answer = tenant.export()
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-2026-02-01-2026-04-30.csv"'
    assert answer.content.startswith(header)
    assert answer.content.endswith(b"\r\n")
    (row,) = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert (row["model"], row["cost_nusd"], row["latency_ms"]) == (model, str(2**53), "0.1")
    assert (row["is_estimate"], row["target"], row["time"]) == ("true", "", "2026-03-15T12:00:00Z")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"], ids=repr)
def test_a_name_that_a_client_chose_is_no_formula(tenant: Tenant, begin: str) -> None:
    """https://owasp.org/www-community/attacks/CSV_Injection: spreadsheets run them. JSON lines have it as it is."""
    model = f'{begin}cmd|"/C calc"!A0'
    tenant.enter(model=model, target=model)
    (row,) = csv.DictReader(io.StringIO(tenant.export().text, newline=""))
    assert row["model"] == row["target"] == "'" + model
    assert json.loads(tenant.export(format="jsonl").text)["model"] == model


def test_many_calls_take_no_memory(tenant: Tenant) -> None:
    """One page at a time, whole and in order: what is 20 MB as a file, and four times that as rows, adds nothing."""
    tenant.enter_many()
    tenant.export(until="2026-03-02")  # what is loaded with the first

    def resident_bytes() -> int:
        status = Path(f"/proc/{tenant.stack.gateway.server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    before = resident_bytes()
    numbers = [json.loads(line)["input_tokens"] for line in tenant.export(format="jsonl").text.splitlines()]
    assert numbers == [*range(1, N_MANY + 1)]
    assert resident_bytes() - before < 8 << 20


def test_a_failure_on_the_way_is_no_clean_end(tenant: Tenant) -> None:
    """The status was sent: the connection breaks off, and every client notices. Before the first byte it is an error
    like any other."""
    tenant.enter_many()
    days = {"since": "2026-03-01", "until": "2026-03-31", "format": "jsonl"}
    with tenant.http.stream("GET", "/api/v1/usage/export", params=days) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_bytes()
        assert next(pieces)
        tenant.stack.execute("revoke select on calls from wattos_app")
        try:
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in pieces:
                    pass
            refused = tenant.export()
        finally:
            tenant.stack.execute("grant select on calls to wattos_app")
    assert "unhandled ProgrammingError in a download" in tenant.stack.gateway.server.logged()
    assert refused.status_code == 500
    assert "content-disposition" not in refused.headers
    assert tenant.export(until="2026-03-01").status_code == 200


def test_head_reads_no_more_than_the_first_page(tenant: Tenant) -> None:
    """Its answer has no body: a million calls must not be read for it."""
    tenant.enter_many()
    with tenant.stack.gateway.http() as operator:

        def n_queries() -> int:
            metrics = operator.get("/health/metrics").text
            return sum(int(float(n)) for n in re.findall(r"^db_queries_total\{.*\} (\S+)$", metrics, re.M))

        before = n_queries()
        answer = tenant.http.head("/api/v1/usage/export", params={"since": "2026-03-01", "until": "2026-03-31"})
        assert (answer.status_code, answer.content) == (200, b"")
        assert n_queries() - before < 50


@pytest.mark.parametrize(
    "query", [{"since": "2026-05-01"}, {"format": "xls"}, {"since": "yesterday"}], ids=["backwards", "form", "no day"]
)
def test_a_file_that_cannot_be_made_is_refused(tenant: Tenant, query: dict[str, str]) -> None:
    assert tenant.export(**query).status_code == 400


def test_pages_show_each_call_once_while_others_are_entered(tenant: Tenant) -> None:
    """Newer ones, and late ones with older ids anywhere: what was there at the beginning is on one page, and nothing
    is on two."""
    there = {tenant.enter(NOW + timedelta(minutes=n)) for n in range(30)}
    seen: list[str] = []
    query: dict[str, str | int] = {"limit": 7}
    while True:
        page = tenant.page(**query)
        seen += [row["id"] for row in page["data"]]
        for minutes in (-5, 3.5, 14.5, 28.5, 90):
            tenant.enter(NOW + timedelta(minutes=minutes))
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert len(seen) == len(set(seen))
    assert there <= set(seen)
    assert seen == sorted(seen, reverse=True)


def test_the_list_takes_filters(tenant: Tenant) -> None:
    """Each by itself, and together; they hold on the next page, too."""
    key = uuid4()
    old = tenant.enter(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC))
    mine = tenant.enter(NOW, key_id=key, model="mine")
    lost = tenant.enter(NOW + timedelta(seconds=1), outcome="lost", model="mine")
    assert tenant.ids(since="2026-03-01") == [lost, mine]
    assert tenant.ids(until="2026-02-28") == [old]
    assert tenant.ids(since="2026-03-15", until="2026-03-15", outcome="ok") == [mine]
    assert tenant.ids(outcome="lost") == [lost]
    assert tenant.ids(key_id=f"key_{key.hex}") == [mine]
    assert tenant.ids(model="none") == []
    first = tenant.page(model="mine", limit=1)
    assert tenant.ids(model="mine", limit=1, after=first["last_id"]) == [mine]
    assert tenant.ids(since="0001-01-01", until="9999-12-31") == [lost, mine, old]
    for query in ({"outcome": "good"}, {"since": "today"}):
        assert tenant.http.get("/api/v1/usage", params=query).status_code == 400
    assert tenant.http.get("/api/v1/usage", params={"key_id": "key_1"}).status_code == 404
