"""What a key check costs, and a server with 1,000 tenants of 100 keys each: its start, and its memory with all known.

    .venv/bin/python tests/bench/accounts.py [--tenants 1000] [--keys 100]

Prints JSON. The check is `Authenticator.authenticate` in this process, of one of all keys in turn; the server is a real
one on a PostgreSQL of its own, and each key is used once over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import aiohttp
import psycopg

from app.accounts import roles
from plugins.contract.credentials import generate_key, key_handle
from plugins.contract.nulls import NullChangeFeed, NullMeter
from plugins.contract.principal import Identity, KeyId, Principal, TenantId
from plugins.security.authenticator import Authenticator
from plugins.security.config import SecuritySettings
from plugins.security.identities import Identities
from plugins.security.tokens import Tokens
from postgres import running_cluster
from server import ADMIN_KEY, environment, running

N_CHECKS = 200_000
N_CALLERS = 20


class Known:
    """An `IdentityLookup` that knows every key."""

    async def find(self, handle: bytes) -> Identity | None:
        tenant, key = TenantId(uuid4()), KeyId(uuid4())
        return Identity(principal=Principal(tenant_id=tenant, key_id=key, permissions=roles.OF_KEY))

    async def used(self, keys: object) -> None:
        pass


class Heard(NullChangeFeed):
    """Of no change, and never deaf."""

    def vouched_until(self, asked_at_s: float) -> float:
        return float("inf")


async def check_us(keys: list[str]) -> float:
    """Microseconds of CPU a check, keys in turn, all remembered."""
    identities = Identities(Known(), Heard(), SecuritySettings(key_cache_max_entries=10**6))
    decisions = NullMeter().counter("", "")
    authenticator = Authenticator(ADMIN_KEY, identities, Tokens(None, None, None), decisions)
    headers = [[(b"host", b"h"), (b"authorization", f"Bearer {key}".encode())] for key in keys]
    for one in headers:
        await authenticator.authenticate(one)
    began = time.process_time()
    for n in range(N_CHECKS):
        await authenticator.authenticate(headers[n % len(headers)])
    return (time.process_time() - began) / N_CHECKS * 1e6


async def fill(url: str, n_tenants: int, keys: list[str]) -> None:
    """As many tenants, the keys dealt out among them."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        tenants = [uuid4() for _ in range(n_tenants)]
        async with connection.cursor() as cursor:
            async with cursor.copy("copy tenants (id, name, slug) from stdin") as copy:
                for n, tenant in enumerate(tenants):
                    await copy.write_row((tenant, f"tenant {n}", f"tenant-{n}"))
            async with cursor.copy("copy api_keys (tenant_id, id, name, prefix, key_hash) from stdin") as copy:
                for n, key in enumerate(keys):
                    digest = hashlib.sha256(key.encode()).digest()
                    await copy.write_row((tenants[n % n_tenants], uuid4(), "x", key[:14], digest))


async def use(url: str, keys: list[str]) -> None:
    """Each once, some at a time."""
    waiting = iter(keys)
    async with aiohttp.ClientSession() as session:

        async def call() -> None:
            for key in waiting:
                async with session.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}) as answer:
                    assert answer.status == 200

        await asyncio.gather(*(call() for _ in range(N_CALLERS)))


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1000


async def measure(n_tenants: int, n_keys: int) -> dict[str, float]:
    keys = [generate_key().key for _ in range(n_tenants * n_keys)]
    assert len({key_handle(hashlib.sha256(key.encode()).digest()) for key in keys}) == len(keys)
    found = {"key_check_us": round(await check_us(keys), 2)}
    with tempfile.TemporaryDirectory() as directory:
        async with running_cluster() as cluster:
            url = await cluster.create_database()
            await fill(url, n_tenants, keys)
            # At full speed the log's queue fills: up to 100 MB that have nothing to do with keys.
            quiet = {"LOCAL_MODELS_ENABLED": "false", "WORKER_ENABLED": "false", "LOG_LEVEL": "warn"}
            env = environment(Path(directory) / "data", DATABASE_URL=url, **quiet)
            began = time.monotonic()
            with running(env, Path(directory) / "server.log") as server:
                found["start_s"] = round(time.monotonic() - began, 2)
                found["memory_after_start_mb"] = memory_mb(server.process.pid)
                for turn in ("first", "second"):
                    began = time.monotonic()
                    await use(server.url, keys)
                    found[f"{turn}_use_of_all_s"] = round(time.monotonic() - began, 1)
                found["memory_with_all_known_mb"] = memory_mb(server.process.pid)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=100)
    asked = parser.parse_args()
    print(json.dumps(asyncio.run(measure(asked.tenants, asked.keys)), indent=1))
