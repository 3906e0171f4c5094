"""The environment as a whole: what is read, what is refused, all in one go."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest
from msgspec import inspect

from app.effective_settings import effective_settings
from app.environment import read_environment
from app.weak_secrets import is_example_password, is_weak_key, password_of
from plugins.contract.discovery import BUILT_IN, toggle_of
from plugins.contract.errors import SettingsError
from plugins.contract.settings import Setting, settings_of
from server import ROOT

STRONG = "q7Vn2mXc9Lr4Ts8Bd1Wz6Kp3Hf5Jg0Ya"
PRODUCTION = {"APP_ENV": "production", "ADMIN_KEY": STRONG, "DATABASE_URL": "postgresql://u:d8s-Kq2-vP1@db/wattos"}


def _another_value(setting: Setting) -> Any:
    """One that may be given and is not the default."""
    of = inspect.type_info(setting.given_kind)
    of = of.type if isinstance(of, inspect.Metadata) else of
    if setting.choices:
        return setting.choices[-1]
    if setting.is_switch:
        return not setting.default
    if isinstance(of, inspect.IntType | inspect.FloatType):
        assert of.le is not None
        return of.le - 1 if setting.default == of.le else of.le
    if setting.variable in ("ADMIN_KEY", "JWT_SECRET"):
        return STRONG
    if setting.variable == "OIDC_ISSUER":
        return "https://login.example.org/realm"
    if setting.variable == "VALKEY_URL":
        return "valkey://cache"
    return "postgresql://db/wattos" if "postgresql" in setting.allowed else "some/path"


def test_every_variable_of_the_catalogue_is_read() -> None:
    """Set in the environment, each arrives with its type in its own field, and the list says where it came from."""
    read = read_environment({})
    settings = [one for group, _ in read.values for one in settings_of([group])]
    given = {one.variable: _another_value(one) for one in settings}
    env = {name: str(value).lower() if value in (True, False) else str(value) for name, value in given.items()}
    loaded = {
        one.variable: getattr(values, one.field)
        for group, values in read_environment(env).values
        for one in settings_of([group])
    }
    assert loaded == given
    rows = {row.variable: row for row in effective_settings(env)[0]}
    assert {rows[name].origin for name in given} == {"environment"}
    assert rows.keys() == given.keys() | {toggle_of(name) for name in BUILT_IN}


def test_the_example_file_says_what_holds_without_it() -> None:
    """Every line that has a value, taken at its word, changes nothing."""
    lines = re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.M)
    given = {name: value for name, value in lines if value}
    assert len(given) > 30
    assert read_environment(given).values == read_environment({}).values


def test_all_that_is_wrong_is_named_at_once() -> None:
    """The app's settings, the plugins', unknown names and what production refuses: mended in one go."""
    env = {
        "APP_ENV": "production",
        "MAX_CONNECTIONS": "1",
        "RETRY_MAX_ATTEMPTS": "99",
        "PLUGINS_CACHE_MAX_BYTES": "0",
        "SHUTDOWN_GRACE": "1",
        "PLUGINS_CACHE_COLOUR": "red",
    }
    with pytest.raises(SettingsError) as caught:
        read_environment(env)
    assert "\n" not in caught.value.message
    for variable in (*env.keys() - {"APP_ENV"},):
        assert variable in caught.value.message
    with pytest.raises(SettingsError) as caught:
        read_environment({"APP_ENV": "production", toggle_of("security"): "0"})
    assert all(name in caught.value.message for name in ("DATABASE_URL", "ADMIN_KEY", "APP_ALLOW_ANONYMOUS"))


def test_each_promised_name_that_is_set_is_warned_about() -> None:
    """Not read by this release: said once each, and never a reason to refuse. Empty is not set."""
    env = {"DEFAULT_PROVIDER": "openai", "OTEL_SERVICE_NAME": "wattos", "JWT_SECRET": ""}
    warnings = read_environment(env).warnings
    assert warnings == (
        "DEFAULT_PROVIDER is set, and this release does not read it",
        "OTEL_SERVICE_NAME is set, and this release does not read it",
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_settings_of_a_plugin_that_is_off_stay_in_the_environment(name: str) -> None:
    """Switching a plugin off refuses none of its settings, whatever their values; a slip in a bare name stays one."""
    without_prefix = {"observability": "LOG_LEVEL", "security": "ADMIN_KEY", "cache": "VALKEY_URL"}
    bare = {**without_prefix, "resilience": "RETRY_MAX_DELAY"}.get(name)
    env = {toggle_of(name): "false", f"PLUGINS_{name.upper()}_COLOUR": "red", **({bare: "-1"} if bare else {})}
    assert read_environment(env).warnings == ()
    if bare and name != "resilience":
        with pytest.raises(SettingsError, match=f"{bare}S is no setting: did you mean {bare}"):
            read_environment({toggle_of(name): "false", f"{bare}S": "x"})


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize(
    "key",
    [
        "short",
        "a" * 40,
        "abcdefghij" * 4,
        STRONG[:16] * 2,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "zyxwvutsrqponmlkjihgfedcba987654321",
        "please-change-me-8h3k9d7f6g5s4a2p",
        "my-Password-8h3k9d7f6g5s4a2p1o0i9u",
        "qwertyuiopasdfghjklzxcvbnm135790",
        "<at-least-32-characters-as-from-openssl>",
    ],
)
@pytest.mark.parametrize("security", ["true", "false"])
def test_production_refuses_a_weak_key(key: str, security: str) -> None:
    """Whether or not the security plugin is there to ask for it; the key itself is never shown."""
    with pytest.raises(SettingsError, match="ADMIN_KEY=… is a weak or an example key") as caught:
        read_environment({**PRODUCTION, "ADMIN_KEY": key, toggle_of("security"): security, "APP_ALLOW_ANONYMOUS": "1"})
    assert key not in caught.value.message


@pytest.mark.parametrize("make", [lambda: secrets.token_hex(32), lambda: secrets.token_urlsafe(32)])
def test_a_random_key_is_not_weak(make: Any) -> None:
    """What `openssl rand -hex 32` and the first start make is taken, always."""
    assert not any(is_weak_key(make()) for _ in range(2000))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgresql://postgres:postgres@db/wattos"),
        ("DATABASE_URL", "postgresql://postgres:PassWord@db/wattos"),
        ("DATABASE_URL", "postgresql://postgres:%70ostgres@db/wattos"),
        ("DATABASE_URL", "postgresql://db/wattos?user=postgres&password=secret"),
        ("DATABASE_URL", "postgresql://wattos:<database-password>@db/wattos"),
        ("DATABASE_MIGRATION_URL", "postgresql://owner:changeme@db/wattos"),
        ("PGPASSWORD", "postgres"),
    ],
)
def test_production_refuses_a_database_password_of_an_example(variable: str, value: str) -> None:
    """In the address, as its parameter, or where libpq looks."""
    assert read_environment({**PRODUCTION, "DATABASE_URL": "postgresql://wattos@db/wattos"}).settings.is_production
    with pytest.raises(SettingsError, match=f"{variable}=… has a password that examples use"):
        read_environment({**PRODUCTION, variable: value})


def test_a_password_is_found_or_there_is_none() -> None:
    """An address that cannot be taken apart has none; that it is refused is another's business."""
    assert password_of("postgresql://u:p%40ss@db/x") == "p@ss"
    assert password_of("postgresql://u:[x@db/x") == ""
    assert password_of(None) == ""
    assert not is_example_password("")
