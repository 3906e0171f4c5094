"""`wattos usage reconcile`: the ledger beside a vendor's file, with an exit code that a job can act on."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from postgres import Cluster
from server import environment, wattos

MORNING = datetime(2026, 3, 15, 8, tzinfo=UTC)
MINI, OTHER = "openai/gpt-4o-mini", "anthropic/claude-sonnet-4-20250514"
USAGE = "start_time,end_time,num_model_requests,model,input_tokens,output_tokens\n"
DAY_S = int(MORNING.replace(hour=0).timestamp())


class Ledger:
    """A database with a tenant, and its calls."""

    def __init__(self, database: str, directory: Path) -> None:
        self.database = database
        self.directory = directory
        models = directory / "models.yaml"
        deployment = {"model": MINI, "api_key": "k"}
        models.write_text(
            json.dumps(
                {"model_list": [{"model_name": "m", "litellm_params": deployment, "model_info": {"id": "mine"}}]}
            )
        )
        self.env = environment(directory, DATABASE_URL=database, MODELS_CONFIG=str(models))
        made = wattos(self.env, "tenants", "create", "school")
        self.tenant = UUID(hex=made.stdout.strip().removeprefix("ten_"))
        self.execute("select make_calls_partition(%(at)s)", {"at": MORNING})

    def execute(self, statement: str, values: dict[str, Any]) -> None:
        async def run() -> None:
            async with await psycopg.AsyncConnection.connect(self.database) as connection:
                await connection.execute(statement.encode(), values)

        asyncio.run(run())

    def enter(
        self, target: str | None = MINI, *, tokens: int = 10, moment: datetime = MORNING, **fields: object
    ) -> None:
        row = {
            "tenant_id": self.tenant,
            "id": UUID(int=random.getrandbits(128)),
            "time": moment,
            "model": "m",
            "endpoint": "chat/completions",
            "outcome": "ok",
            "target": target,
            "attempts": 1,
            "is_estimate": False,
            "input_tokens": tokens,
            "output_tokens": tokens,
            "cost_nusd": tokens * 1000,
            **fields,
        }
        names = ", ".join(row)
        self.execute(f"insert into calls ({names}) values ({', '.join(f'%({name})s' for name in row)})", row)

    def reconcile(self, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        file = self.directory / "usage.csv"
        file.write_text(text)
        return wattos(self.env, "usage", "reconcile", str(file), *arguments)


@pytest.fixture(scope="module")
def made(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger(asyncio.run(cluster.create_database()), tmp_path_factory.mktemp("reconcile"))


@pytest.fixture
def ledger(made: Ledger) -> Ledger:
    made.execute("truncate calls", {})
    return made


def usage(requests: int, tokens: int, model: str = "gpt-4o-mini-2024-07-18", day: int = 0) -> str:
    begins = DAY_S + day * 86_400
    return f"{begins},{begins + 86_400},{requests}.0,{model},{tokens},{tokens}\n"


def test_equal_sides_end_with_0(ledger: Ledger) -> None:
    """By any name of the model's, also a target's own; other vendors, other days, the cache's answers and failures
    are no part of the file."""
    ledger.enter()
    ledger.enter(f"{MINI}#2")
    ledger.enter("mine")
    ledger.enter("openai/gpt-4o-mini-2024-07-18", outcome="cancelled")
    ledger.enter(OTHER)
    ledger.enter(moment=MORNING - timedelta(days=1))
    ledger.enter(outcome="cached", attempts=0)
    ledger.enter(outcome="error", tokens=0)
    ledger.enter(outcome="cancelled", attempts=0)
    done = ledger.reconcile(USAGE + usage(4, 40))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "nothing differs in 1 days and models"


def test_a_difference_ends_with_1_and_is_in_the_table(ledger: Ledger) -> None:
    """Also what only one side has. A tolerance is for the tokens of a day and model."""
    ledger.enter()
    ledger.enter("openai/gpt-4.1")
    text = USAGE + usage(1, 13) + usage(1, 10, "gpt-4.1-2025-04-14") + usage(2, 5, "o3", day=1)
    done = ledger.reconcile(text)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 of 3 days and models differ (≠)"
    (row,) = [line.split() for line in done.stdout.splitlines() if " gpt-4o-mini " in line]
    assert row == ["≠", "2026-03-15", "gpt-4o-mini", "1", "1", "0", "10", "13", "+3", "10", "13", "+3"]
    assert ledger.reconcile(text, "--tolerance-tokens", "3", "--until", "2026-03-15").returncode == 0
    assert ledger.reconcile(text, "--tolerance-tokens", "2", "--until", "2026-03-15").returncode == 1


def test_estimates_stand_apart_and_explain(ledger: Ledger) -> None:
    """A stream that was cancelled may have been billed or not: neither is a difference."""
    ledger.enter()
    ledger.enter(outcome="cancelled", is_estimate=True, tokens=100)
    ledger.enter(None, outcome="lost", attempts=0, is_estimate=True, tokens=0)
    for billed in (usage(1, 10), usage(2, 70)):
        done = ledger.reconcile(USAGE + billed)
        assert done.returncode == 0
        assert "gpt-4o-mini: 1 requests, 100 tokens in, 100 out" in done.stdout
        assert "lost, nobody knows at which target: 1 requests" in done.stdout
    assert ledger.reconcile(USAGE + usage(2, 111)).returncode == 1


def test_a_tenant_a_target_and_days_can_be_chosen(ledger: Ledger) -> None:
    """A plain file may have any vendor's models, by the names of MODELS_CONFIG; costs are compared to the cent."""
    ledger.enter()
    ledger.enter(OTHER)
    ledger.enter(tenant_id=UUID(int=5))
    plain = "date,model,requests,cost_usd\n"
    both = "2026-03-15,openai/gpt-4o-mini,1,0.00001\n2026-03-15,claude-sonnet-4,1,0.00001\n"
    assert ledger.reconcile(plain + both).returncode == 1
    assert ledger.reconcile(plain + both, "--tenant", "school").returncode == 0
    assert ledger.reconcile(plain + both.replace("0.00001", "0.02"), "--tenant", "school").returncode == 1
    only = "2026-03-15,claude-sonnet-4,1,0.00001\n"
    for target in ("anthropic", OTHER, "claude-sonnet-4-20250514"):
        assert ledger.reconcile(plain + only, "--target", target).returncode == 0
    exact = ("--target", "anthropic", "--tolerance-usd", "0.000001")
    assert ledger.reconcile(plain + only.replace("0.00001", "0.000012"), *exact).returncode == 1


def test_json_is_for_programs(ledger: Ledger) -> None:
    ledger.enter()
    done = ledger.reconcile(USAGE + usage(1, 12), "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["is_equal"], shown["kind"]) == (1, False, "OpenAI usage")
    assert shown["lines"][0]["difference"] == {
        "requests": 0,
        "input_tokens": 2,
        "output_tokens": 2,
        "cost_nusd": None,
    }


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("colour\nblue\n", (), "usage.csv, line 2: has no columns that are known (colour)"),
        (USAGE + usage(1, 1), ("--tenant", "nobody"), "no tenant with the slug 'nobody'"),
        (USAGE + usage(1, 1), ("--since", "2026-04-01"), "--since 2026-04-01 is after --until 2026-03-15"),
        (USAGE + usage(1, 1), ("--since", "yesterday"), "'yesterday' does not match the format"),
        (USAGE + usage(1, 1), ("--tolerance-usd", "much"), "'much' is no amount of dollars"),
        (USAGE + usage(1, 1), ("--tolerance-tokens", "-1"), "-1 is not in the range"),
    ],
)
def test_what_cannot_be_compared_ends_with_2(
    ledger: Ledger, text: str, arguments: tuple[str, ...], message: str
) -> None:
    """So that a job does not take it for a difference; without a stack."""
    done = ledger.reconcile(text, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_ends_with_2(ledger: Ledger) -> None:
    done = wattos(ledger.env, "usage", "reconcile", "/nowhere.csv")
    assert (done.returncode, done.stderr) == (2, "wattos: /nowhere.csv: cannot be read (No such file or directory)\n")
