"""`wattos settings`, and what keeps WattOS from starting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.factory import build_app
from plugins.contract.discovery import toggle_of
from server import environment, wattos

STRONG = "q7Vn2mXc9Lr4Ts8Bd1Wz6Kp3Hf5Jg0Ya"
DATABASE = "postgresql://wattos:d8s-Kq2-vP1@127.0.0.1:1/wattos"


def production(tmp_path: Path, **env: str) -> dict[str, str]:
    return environment(tmp_path, APP_ENV="production", **{"ADMIN_KEY": STRONG, "DATABASE_URL": DATABASE, **env})


def test_settings_are_listed_with_value_and_origin_and_no_secret(tmp_path: Path) -> None:
    """One line each; nothing is started, nothing is written."""
    listed = wattos(production(tmp_path / "data", RETRY_MAX_ATTEMPTS="4"), "settings")
    assert (listed.returncode, listed.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in listed.stdout.splitlines()}
    assert rows["RETRY_MAX_ATTEMPTS"] == ["4", "environment"]
    assert rows["RETRY_MAX_DELAY"] == ["30000", "default"]
    assert rows["ADMIN_KEY"] == ["…", "environment"]
    assert rows["DATABASE_URL"] == ["postgresql://wattos:…@127.0.0.1:1/wattos", "environment"]
    assert STRONG not in listed.stdout
    assert "d8s-Kq2-vP1" not in listed.stdout
    assert not (tmp_path / "data").exists()


def test_settings_are_listed_as_json(tmp_path: Path) -> None:
    """For scripts: the same rows with owner and what is allowed."""
    rows = json.loads(wattos(production(tmp_path), "settings", "--json").stdout)
    found = {row["variable"]: row for row in rows}
    assert found["MAX_BODY_BYTES"]["allowed"] == "an integer from 1024 to 1073741824, in bytes"
    assert found["RETRY_MAX_DELAY"]["owner"] == "resilience"
    assert STRONG not in json.dumps(rows)


def test_the_generated_key_is_told_apart(tmp_path: Path) -> None:
    """In development the administrator's key is made at the first start: the list says so, and makes none."""
    env = {name: value for name, value in environment(tmp_path).items() if name != "ADMIN_KEY"}
    (row,) = [r for r in wattos(env, "settings").stdout.splitlines() if r.startswith("ADMIN_KEY")]
    assert row.endswith("will be generated at the first start")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"ADMIN_KEY": ""}, "ADMIN_KEY"),
        ({"ADMIN_KEY": "short"}, "ADMIN_KEY"),
        ({"ADMIN_KEY": "a" * 40}, "ADMIN_KEY"),
        ({"ADMIN_KEY": "please-change-me-0123456789abcdefgh"}, "ADMIN_KEY"),
        ({"ADMIN_KEY": "with a space 0123456789 abcdefghijklm"}, "ADMIN_KEY"),
        ({"DATABASE_URL": "postgresql://postgres:postgres@127.0.0.1:1/wattos"}, "DATABASE_URL"),
        ({"DATABASE_MIGRATION_URL": "postgresql://postgres:changeme@127.0.0.1:1/wattos"}, "DATABASE_MIGRATION_URL"),
        ({toggle_of("security"): "false"}, "APP_ALLOW_ANONYMOUS"),
    ],
)
@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("settings",)], ids=["serve", "settings"])
def test_production_refuses_what_is_only_good_for_trying(
    tmp_path: Path, command: tuple[str, ...], env: dict[str, str], named: str
) -> None:
    """Anonymous access, weak or default secrets, the embedded database: one line that names the variable, exit 2."""
    refused = wattos(production(tmp_path, **env), *command)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert named in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert STRONG not in refused.stderr
    assert "changeme" not in refused.stderr.replace("change-me", "")


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("worker",)], ids=lambda c: c[0])
def test_a_data_directory_that_cannot_be_made_is_refused_at_start(tmp_path: Path, command: tuple[str, ...]) -> None:
    """And not at the first upload: the last line names value, reason and remedy; no stack trace."""
    (tmp_path / "file").touch()
    refused = wattos(environment(tmp_path / "file" / "data", DATABASE_URL=DATABASE), *command)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"wattos: DATA_DIR='{tmp_path}/file/data' cannot be used (Not a directory): give a")
    assert "Traceback" not in refused.stdout


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("worker",), ("settings",)], ids=lambda c: c[0])
def test_a_misspelt_setting_keeps_every_command_from_starting(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The server, the worker and the list alike."""
    refused = wattos(environment(tmp_path, SHUTDOWN_GRACE="3"), *command)
    assert refused.returncode == 2
    assert "SHUTDOWN_GRACE is no setting: did you mean SHUTDOWN_GRACE_S?" in refused.stderr


def test_a_promised_name_is_warned_about(tmp_path: Path) -> None:
    """Set, and not read by this release: said, not silently ignored."""
    listed = wattos(environment(tmp_path, DEFAULT_PROVIDER="openai"), "settings")
    assert listed.returncode == 0
    assert listed.stderr.strip() == "warning: DEFAULT_PROVIDER is set, and this release does not read it"


def test_a_promised_name_is_logged_about_at_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, without the value: it may hold a password."""
    value = "https://cache:hunter2hunter2@db"
    env = {
        "DATA_DIR": str(tmp_path),
        "DEFAULT_PROVIDER": value,
        "OTEL_SERVICE_NAME": "x",
        toggle_of("observability"): "0",
    }
    build_app(env)
    lines = [line for line in capsys.readouterr().out.splitlines() if "this release does not read it" in line]
    assert [line.split(" WARNING app: ")[1].split()[0] for line in lines] == ["DEFAULT_PROVIDER", "OTEL_SERVICE_NAME"]
    assert "hunter2" not in "".join(lines)
