"""How long summaries take over ten million calls: `.venv/bin/python tests/bench/ledger.py [--calls N]`.

An embedded PostgreSQL of its own, in a temporary directory; 50 tenants, a month of days, 40 keys and 8 models each.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import psycopg
from sqlalchemy import text

from app.billing.service import UsageService
from app.billing.store import Grouping
from app.database.embedded import embedded_postgres
from app.database.engine import Database, Role
from app.database.migrate import upgrade
from app.database.paging import PageRequest

N_TENANTS = 50
BATCH = 500_000
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
TENANT = UUID(int=1)

FILL = """
INSERT INTO calls (tenant_id, id, time, key_id, model, endpoint, outcome, target, attempts, input_tokens, output_tokens,
                   is_estimate, cost_nusd, latency_ms)
SELECT lpad(to_hex(1 + n % %(tenants)s), 32, '0')::uuid,
       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || lpad(to_hex(n), 20, '0'))::uuid, at,
       lpad(to_hex(n / 400 %% 40), 32, '0')::uuid, 'model-' || n / 50 %% 8, 'chat/completions',
       'ok', 'target-' || n / 50 %% 8, 1,
       n %% 1000, n %% 300, false, n %% 100000, 250
FROM (SELECT n, %(month)s + n::float8 / %(calls)s * interval '720 hours' AS at
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS made
""".replace("n % %(tenants)s", "n %% %(tenants)s")
ADD_UP = """
INSERT INTO usage_days
SELECT tenant_id, (time AT TIME ZONE 'UTC')::date, model, target, key_id, lpad('', 32, '0')::uuid, count(*), 0, 0,
       sum(input_tokens), sum(output_tokens), sum(cost_nusd)
FROM calls GROUP BY 1, 2, 3, 4, 5
"""


async def main(n_calls: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with embedded_postgres(Path(directory)) as url:
            await upgrade(url)
            database = Database(pool_size=2)
            await database.open(url)
            async with database.role(Role.LEDGER) as session:
                await session.execute(text("select make_calls_partition(:at)"), {"at": MONTH})
            began = time.perf_counter()
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                for first in range(0, n_calls, BATCH):
                    last = min(first + BATCH, n_calls) - 1
                    given = {"tenants": N_TENANTS, "month": MONTH, "calls": n_calls, "first": first, "last": last}
                    await connection.execute(FILL, given)
                await connection.execute(ADD_UP)
                await connection.execute("ANALYZE calls, usage_days")
            print(f"{n_calls:,} calls made in {time.perf_counter() - began:.0f} s")
            await measure(UsageService(database))
            await database.close()


async def measure(usage: UsageService) -> None:
    since, until = date(2026, 11, 1), date(2026, 11, 30)
    groupings: list[list[Grouping]] = [["model"], ["day"], ["key"], ["day", "model", "target", "key", "user", "tenant"]]
    for by in groupings:
        took = []
        for _ in range(40):
            began = time.perf_counter()
            rows = await usage.summary(TENANT, by, since, until)
            took.append((time.perf_counter() - began) * 1000)
        print(f"summary by {','.join(by)}: {len(rows)} rows, p95 {sorted(took)[37]:.1f} ms")
    took, after = [], None
    for _ in range(40):
        began = time.perf_counter()
        page = await usage.calls(TENANT, PageRequest(limit=100, after=after))
        took.append((time.perf_counter() - began) * 1000)
        after = page.items[-1].id
    print(f"a page of 100 calls: p95 {sorted(took)[37]:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000_000)
    asyncio.run(main(parser.parse_args().calls))
