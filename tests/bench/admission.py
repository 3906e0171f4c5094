"""CPU of letting a call in and accounting for it: `.venv/bin/python tests/bench/admission.py [--calls N]`.

Key check, three limits of each kind, two budgets, intent and entry, as the server does them for each call, in this
process: on a real journal, with money lent by a real PostgreSQL, and with all that is told to it beside the calls
(entries moved, leases renewed). Prints JSON. The bar is 0.08 ms a call for all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.accounts import roles
from app.accounts.service import AccountsService
from app.audit.model import COMMAND_LINE
from app.billing.admission import Admission
from app.billing.budgets.reservations import Reservations
from app.billing.budgets.service import BudgetsService
from app.billing.journal import Journal
from app.billing.ledger import Ledger
from app.billing.mover import Mover
from app.billing.reading import JournalReader
from app.database.engine import Database
from app.ids import new_id
from app.llm.accounting import Expected, Happened
from app.llm.model import Usage
from plugins.contract.capabilities import Capabilities
from plugins.contract.credentials import generate_key
from plugins.contract.limits import Limit
from plugins.contract.nulls import NullChangeFeed, NullMeter
from plugins.contract.principal import ANONYMOUS, Identity, KeyId, Principal, TenantId
from plugins.security.authenticator import Authenticator
from plugins.security.config import SecuritySettings
from plugins.security.identities import Identities
from plugins.security.limits.entrance import Limits
from plugins.security.tokens import Tokens
from postgres import running_cluster
from server import ADMIN_KEY

YIELD_EVERY = 20
"""Calls between which the loop does other things, as it does between requests."""

N_ROUNDS = 20
"""The least of them is what the code costs, as in `timeit`: the median tells what else the machine was doing."""

PLENTY = 10**9


class Heard(NullChangeFeed):
    """Of no change, and never deaf."""

    def vouched_until(self, asked_at_s: float) -> float:
        return float("inf")


class Known:
    """The `IdentityLookup` and `LimitLookup` of one key of one user."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    async def find(self, handle: bytes) -> Identity | None:
        return Identity(principal=self.principal)

    async def used(self, keys: object) -> None:
        pass

    async def of(self, tenant_id: UUID) -> Sequence[Limit]:
        principal = self.principal
        assert principal.user_id is not None
        assert principal.key_id is not None
        every = {"requests_per_minute": PLENTY, "tokens_per_minute": PLENTY, "max_concurrency": PLENTY}
        return [
            Limit(scope="tenant", scope_id=tenant_id, **every),
            Limit(scope="user", scope_id=principal.user_id, **every),
            Limit(scope="key", scope_id=principal.key_id, **every),
        ]


async def cpu_us(n_calls: int, act: Callable[[], Awaitable[None]], after_round: Callable[[], None]) -> list[float]:
    """Of each round, a call's; `after_round` is not measured."""
    n_calls //= N_ROUNDS
    rounds: list[float] = []
    for _ in range(N_ROUNDS):
        began_s = time.process_time()
        for number in range(n_calls):
            await act()
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        rounds.append((time.process_time() - began_s) / n_calls * 1e6)
        after_round()
    return rounds


async def measure(n_calls: int, url: str, root: Path) -> dict[str, float]:
    database, feed = Database(pool_size=3), Heard()
    await database.open(url)
    tenant = await AccountsService(database).create_tenant(COMMAND_LINE, name="bench", slug="bench")
    user_id, key_id = UUID(int=1), UUID(int=2)
    principal = Principal(
        tenant_id=TenantId(tenant.id), key_id=KeyId(key_id), user_id=user_id, permissions=roles.OF_KEY
    )
    budgets = BudgetsService(database, grace_s=60, webhook_key=b"", allowed_hosts=frozenset())
    for scope, model in (("tenant", None), ("model", "m")):
        await budgets.create(
            ANONYMOUS,
            COMMAND_LINE,
            tenant_id=tenant.id,
            scope=scope,  # type: ignore[arg-type]  # one of the two
            model=model,
            period="month",
            amount_nusd=10**16,
            allow_unpriced=False,
            webhook_url=None,
        )
    known, settings = Known(principal), SecuritySettings()
    decisions = NullMeter().counter("", "")
    authenticator = Authenticator(ADMIN_KEY, Identities(known, feed, settings), Tokens(None, None, None), decisions)
    limits = Limits(settings)
    limits.bind(Capabilities(limit_lookup=known, change_feed=feed))

    def room(name: str) -> tuple[Journal, Reservations, Mover, Admission]:
        """A process's, with a journal of its own that nobody else replays."""
        journal = Journal(root / name)
        journal.open()
        reservations = Reservations(database, feed, lambda: journal.folder.name, grace_s=60)
        mover = Mover(database, journal, root / name, reservations)
        return journal, reservations, mover, Admission(Ledger(journal.append), reservations, limits)

    journal, reservations, mover, admission = room("unmoved")
    ledger, call_id = Ledger(journal.append), new_id()
    headers = [(b"host", b"h"), (b"authorization", f"Bearer {generate_key().key}".encode())]
    expected = Expected(
        tenant_id=tenant.id,
        key_id=key_id,
        user_id=user_id,
        model="m",
        endpoint="chat/completions",
        input_tokens=100,
        output_tokens=1024,
        estimate_nusd=600_000,
        unpriced=None,
    )
    happened = Happened(
        outcome="ok",
        target="openai/gpt-4o-mini",
        attempts=1,
        usage=Usage(input_tokens=80, output_tokens=200),
        cost_nusd=130_000,
    )

    async def check_key() -> None:
        await authenticator.authenticate(headers)

    async def admit_request() -> None:
        caller = await limits.limiter.caller(tenant.id, user_id, key_id)
        assert caller is not None
        await limits.limiter.admit_request(caller)

    async def account() -> None:
        (await admission.open(expected)).close(happened)

    async def limit() -> None:
        slot = await limits.admit(tenant_id=tenant.id, user_id=user_id, key_id=key_id, n_tokens=1124)
        slot.close(280)

    async def reserve() -> None:
        reservation = await reservations.reserve(call_id, expected)
        assert reservation is not None
        reservation.settle(0)

    async def enter() -> None:
        ledger.open(expected, call_id).close(happened)

    async def all_of_it() -> None:
        await check_key()
        await admit_request()
        await account()

    reader = JournalReader(journal.folder)

    def forget_settled() -> None:
        """As the mover does ten times a second: what is over is not kept."""
        while entries := reader.read(journal.current):
            for entry in entries:
                reservations.dropped(entry.id)

    async with limits.serving():
        await cpu_us(n_calls // 5, all_of_it, forget_settled)
        found: dict[str, float] = {}
        for name, act in (
            ("key_check", check_key),
            ("three_request_limits", admit_request),
            ("three_token_limits_and_slots", limit),
            ("two_budgets", reserve),
            ("intent_and_entry", enter),
            ("all_of_it", all_of_it),
        ):
            rounds = await cpu_us(n_calls, act, forget_settled)
            found |= {f"{name}_us": round(min(rounds), 2), f"{name}_median_us": round(statistics.median(rounds), 2)}
        journal.close(remove=True)
        journal, reservations, mover, admission = room("moved")
        reservations.start()
        mover.start()
        # As fast as a thousand calls a second, so that what is moved is moved in batches of their usual size.
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        n_paced = min(n_calls, 20_000)
        for number in range(n_paced):
            await all_of_it()
            if (ahead_s := number / 1000 - (time.monotonic() - began_s)) > 0:
                await asyncio.sleep(ahead_s)
        found["all_at_1000_a_second_with_moving_us"] = round((time.process_time() - began_cpu_s) / n_paced * 1e6, 2)
        began_cpu_s = time.process_time()
        for number in range(n_paced):
            if (ahead_s := number / 1000 - (time.monotonic() - began_s - n_paced / 1000)) > 0:
                await asyncio.sleep(ahead_s)
        found["of_it_the_pace_itself_us"] = round((time.process_time() - began_cpu_s) / n_paced * 1e6, 2)
        found["questions_for_money_a_call"] = reservations.lender.n_asked / n_paced
        await mover.stop()
        await reservations.stop()
    await database.close()
    return found


async def main(n_calls: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        async with running_cluster() as cluster:
            return await measure(n_calls, await cluster.create_database(), Path(name) / "journal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=50_000)
    print(json.dumps(asyncio.run(main(parser.parse_args().calls)), indent=1))
