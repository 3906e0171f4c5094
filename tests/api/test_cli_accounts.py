"""`wattos tenants`, `users`, `keys`: the first administrator and whatever is quicker on the server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from app.audit.verify import verify
from app.database.engine import Database
from postgres import Cluster
from server import environment, wattos


@pytest.fixture(scope="module")
def env(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    database = asyncio.run(cluster.create_database())
    directory: Path = tmp_path_factory.mktemp("commands")
    made = environment(directory, DATABASE_URL=database)
    assert wattos(made, "tenants", "create", "school", "--name", "A school").returncode == 0
    return made


def said(env: dict[str, str], *arguments: str) -> str:
    done = wattos(env, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_tenants_are_listed(env: dict[str, str]) -> None:
    """Id, slug and name, newest first."""
    first, second = said(env, "tenants", "list").splitlines()
    assert re.fullmatch(r"ten_[0-9a-f]{32}  school +A school", first)
    assert re.fullmatch(r"ten_[0-9a-f]{32}  default +Default", second)


def test_a_keys_life(env: dict[str, str]) -> None:
    """Made, listed without its secret, revoked, listed as revoked; revoking again changes nothing."""
    key = said(env, "keys", "create", "--tenant", "school", "--name", "lab", "--scope", "models:use", "--model", "a")
    assert key.startswith("sk-wattos-")
    (line,) = said(env, "keys", "list", "--tenant", "school").splitlines()
    assert key not in line
    assert re.fullmatch(r"key_[0-9a-f]{32}  sk-wattos-.{4}…  active +never used +lab", line)
    for _ in range(2):
        assert said(env, "keys", "revoke", line.split()[0]) == "revoked"
    assert "revoked" in said(env, "keys", "list", "--tenant", "school")


def test_the_first_administrator(env: dict[str, str]) -> None:
    """With a password that is not shown; a second of the same name is refused in one line."""
    arguments = ("users", "create", "--tenant", "school", "--email", "Boss@school.example", "--role", "admin")
    password = ("--password", "vier Birnen auf dem Tisch")
    assert re.fullmatch(r"user_[0-9a-f]{32}", said(env, *arguments, *password))
    taken = wattos(env, *arguments, *password)
    assert (taken.returncode, taken.stderr) == (1, "wattos: there is a user with this email already\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("keys", "revoke", "key_" + "0" * 32), 1, "no key with this id"),
        (("keys", "revoke", "nonsense"), 1, "no key with this id"),
        (("keys", "list", "--tenant", "nobody"), 1, "no tenant with the slug 'nobody'"),
        (("keys", "create", "--tenant", "school", "--scope", "platform:manage"), 1, "no key can have this"),
        (("keys", "create", "--tenant", "school", "--scope", "everything"), 1, "no key can have this"),
        (
            ("users", "create", "--tenant", "nobody", "--email", "a@b.example", "--password", "x" * 12),
            1,
            "no tenant with the slug 'nobody'",
        ),
        (
            ("users", "create", "--tenant", "school", "--email", "a@b.example", "--password", "x" * 12),
            1,
            "easily guessed",
        ),
        (("users", "create", "--tenant", "school", "--email", "no address", "--password", "x" * 12), 1, "email"),
        (("audit", "verify", "--heads", "/nowhere"), 1, "holds no heads"),
        (("secrets", "rotate", "more"), 2, "unexpected extra argument"),
    ],
)
def test_mistakes_are_one_line(env: dict[str, str], arguments: tuple[str, ...], code: int, message: str) -> None:
    """What, where, how to mend; never a stack."""
    refused = wattos(env, *arguments)
    assert refused.returncode == code
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_commands_are_in_the_audit_log(env: dict[str, str]) -> None:
    """As the platform's doing; and the log is whole."""
    database = Database(pool_size=1)
    await database.open(env["DATABASE_URL"])
    chains = [chain async for chain in verify(database)]
    await database.close()
    assert [chain.broken for chain in chains] == [None]
    assert chains[0].n_events >= 3
