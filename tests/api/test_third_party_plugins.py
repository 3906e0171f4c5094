"""Plugins that others wrote: installed is not active, and a bad one is refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from plugins.contract.discovery import toggle_of
from server import ROOT, RunningServer, environment, running, wattos

EXAMPLE = ROOT / "docs" / "examples" / "greeting_plugin.py"


def install(site: Path, *entry_points: str, **modules: str) -> None:
    """A distribution as pip would leave it: modules, and metadata that names the entry points."""
    info = site / "wattos_greeting-1.2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wattos-greeting\nVersion: 1.2.3\n")
    (info / "entry_points.txt").write_text("[wattos.plugins]\n" + "\n".join(entry_points) + "\n")
    shutil.copy(EXAMPLE, site)
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)


def env_of(tmp_path: Path, **env: str) -> dict[str, str]:
    return environment(tmp_path / "data", PYTHONPATH=str(tmp_path / "site"), LOCAL_MODELS_ENABLED="false", **env)


GREETING = "greeting = greeting_plugin:GreetingPlugin"


def test_an_installed_plugin_is_off_until_it_is_switched_on(tmp_path: Path) -> None:
    """The list shows it with its version and why it is off; its settings are tolerated, not read."""
    install(tmp_path / "site", GREETING)
    off = wattos(env_of(tmp_path, PLUGINS_GREETING_WORD="moin"), "plugins")
    assert (off.returncode, off.stderr) == (0, "")
    assert [line.split() for line in off.stdout.splitlines() if line.startswith("greeting")] == [
        ["greeting", "off", "1.2.3", "default", "of", "third-party", "plugins"]
    ]
    on = wattos(env_of(tmp_path, PLUGINS_GREETING_ENABLED="1", PLUGINS_GREETING_WORD="moin"), "settings")
    assert any(line.split()[:2] == ["PLUGINS_GREETING_WORD", "moin"] for line in on.stdout.splitlines())


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"PLUGINS_GREETING_WORT": "moin"}, "did you mean PLUGINS_GREETING_WORD"),
        ({"PLUGINS_GREETING_LANGUAGE": "de"}, "PLUGINS_GREETING_LANGUAGE is no setting"),
        ({"PLUGINS_GREETING_WORD": "x" * 51}, "PLUGINS_GREETING_WORD='x"),
    ],
)
def test_the_settings_of_a_plugin_that_is_on_are_checked(tmp_path: Path, env: dict[str, str], named: str) -> None:
    """As strictly as the built-ins': unknown, misspelt and out of range."""
    install(tmp_path / "site", GREETING)
    refused = wattos(env_of(tmp_path, PLUGINS_GREETING_ENABLED="true", **env), "settings")
    assert refused.returncode == 2
    assert named in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("entry_point", "module", "named"),
    [
        ("cache = greeting_plugin:GreetingPlugin", "", "two plugins are called 'cache'"),
        ("Bad-Name = greeting_plugin:GreetingPlugin", "", "must match"),
        ("greeting = missing_module:GreetingPlugin", "", "cannot be loaded (No module named 'missing_module')"),
        ("greeting = broken:Plugin", "raise RuntimeError('x')", "cannot be loaded (RuntimeError)"),
        ("greeting = broken:Plugin", "Plugin = object", "is not a GatewayPlugin"),
        ("greeting = greeting_plugin:NoSuchPlugin", "", "cannot be loaded (AttributeError)"),
        (
            "greeting = broken:Plugin",
            "from plugins.contract.plugin import GatewayPlugin as P\n\n\nclass Plugin(P):\n    name = 'greeting'\n",
            "is not a GatewayPlugin with all its steps",
        ),
        ("hello = greeting_plugin:GreetingPlugin", "", "plugin 'hello' (greeting_plugin:GreetingPlugin) calls itself"),
        (
            "greeting = broken:Plugin",
            "from greeting_plugin import GreetingPlugin\n\n\nclass Plugin(GreetingPlugin):\n    contract_version = 2\n",
            "was made for contract 2, this is 1",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, entry_point: str, module: str, named: str
) -> None:
    """Clash of names, another contract, a broken import: what, where, how to mend, exit code 2."""
    install(tmp_path / "site", entry_point, broken=module)
    toggle = toggle_of("hello" if entry_point.startswith("hello") else "greeting")
    refused = wattos(env_of(tmp_path, **{toggle: "true"}), "plugins")
    assert refused.returncode == 2
    assert named in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def greeting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    tmp_path = tmp_path_factory.mktemp("greeting")
    install(tmp_path / "site", GREETING)
    env = env_of(tmp_path, PLUGINS_GREETING_ENABLED="true", PLUGINS_GREETING_WORD="moin")
    with running(env, tmp_path / "server.log") as server:
        yield server


def test_the_plugin_of_the_documentation_works(greeting_server: RunningServer) -> None:
    """`docs/plugins.md` shows this very file: its route, its header and its metric are there."""
    answer = httpx.get(f"{greeting_server.url}/greeting")
    assert (answer.status_code, answer.json()) == (200, {"greeting": "moin"})
    assert answer.headers["x-greeting"] == "moin"
    assert "greetings_total" in httpx.get(f"{greeting_server.url}/health/metrics").text
    listed = httpx.get(f"{greeting_server.url}/plugins").json()["data"]
    assert {"name": "greeting", "enabled": True, "version": "1.2.3"}.items() <= listed[-1].items()
