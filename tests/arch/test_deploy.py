"""What is in `deploy/`, and the Dockerfile, is valid and says nothing that WattOS does not understand."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from app.environment import read_environment
from app.settings import Settings
from arch.deployment import DEPLOY, KNOWN, VERSION, memory_bytes, read_env
from plugins.contract.errors import SettingsError
from server import ROOT
from valkey_server import running_valkey

OURS = ("migrate", "server", "worker")
LARGEST_DOCUMENT_BYTES = 1_300_000_000
"""What reading the largest DOCX that is let in takes (`PARSE_MEMORY_BYTES`); a worker reads two at a time."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """`deploy/compose.yaml`, YAML's own merges done, variables not filled in."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


@pytest.mark.requirement("DEL-2")
def test_compose_keeps_to_the_specification(compose: dict[str, Any]) -> None:
    """Every key is one that the Compose Specification knows, with a value of its type."""
    models = pytest.importorskip("compose_pydantic.models", reason="compose-pydantic is not installed")
    # Its models, made from the specification's schema, leave out the patterns: `x-…` is allowed at the top.
    models.ComposeSpecification.model_validate({k: v for k, v in compose.items() if not k.startswith("x-")})


@pytest.mark.requirement("DEL-2")
def test_compose_services_run_with_least_privilege(compose: dict[str, Any]) -> None:
    """Pinned images, read-only, no capability, bounded memory; the API on this machine alone, the rest on no port."""
    services = compose["services"]
    assert set(services) == {"postgres", "valkey", *OURS}
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert memory_bytes(service["deploy"]["resources"]["limits"]["memory"]) >= 512 << 20
        assert ("ports" in service) == (name == "server")
    for name in OURS:
        service = services[name]
        assert service["image"] == f"${{WATTOS_IMAGE:-wattos:{VERSION}}}"
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert {volume.partition(":")[2] for volume in service["volumes"]} == {"/data"}
        assert service["tmpfs"][0].startswith("/tmp:")
    assert services["server"]["ports"] == ["127.0.0.1:8080:8080"]
    assert memory_bytes(services["worker"]["deploy"]["resources"]["limits"]["memory"]) > 2 * LARGEST_DOCUMENT_BYTES


@pytest.mark.requirement("DEL-2")
def test_compose_starts_in_order_and_stops_in_time(compose: dict[str, Any]) -> None:
    """The database, its health, the migration, then the rest; nobody is killed while streams may still run."""
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["migrate"]["restart"] == "no"
    for name in ("server", "worker"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    delay_s = float(services["server"]["environment"]["SHUTDOWN_DELAY_S"])
    grace_s = Settings().shutdown_grace_s
    assert int(services["server"]["stop_grace_period"].removesuffix("s")) >= delay_s + grace_s + 10
    tag = re.fullmatch(r"pgvector/pgvector:(\d+)\.(\d+)\.(\d+)-pg(\d+)", services["postgres"]["image"])
    assert tag is not None
    assert tuple(map(int, tag.groups())) >= (0, 8, 4, 15)


@pytest.mark.requirement("DEL-2")
def test_composes_valkey_starts_and_would_rather_refuse_than_forget(compose: dict[str, Any]) -> None:
    """A real server takes the command as it is: bounded memory, nothing pushed out, nothing on disk, a password."""
    service = compose["services"]["valkey"]
    program, *options = service["command"]
    assert program == "valkey-server"
    given = dict(zip((o.removeprefix("--") for o in options[::2]), options[1::2], strict=True))
    assert given.pop("requirepass") == "${VALKEY_PASSWORD:?set it in deploy/.env}"
    assert service["user"] == "10001:10001"
    assert re.fullmatch(r"valkey/valkey:\d+\.\d+\.\d+", service["image"])
    limit_bytes = memory_bytes(service["deploy"]["resources"]["limits"]["memory"])
    assert 2 * memory_bytes(given["maxmemory"].removesuffix("b")) <= limit_bytes, "for buffers and fragments"
    with running_valkey(password="v3Y-t7w-Lk0", settings=given) as server:
        for name, value in (("maxmemory-policy", "noeviction"), ("save", ""), ("appendonly", "no")):
            assert server.command("CONFIG", "GET", name).split("\r\n")[4] == value


@pytest.mark.requirement("DEL-2")
def test_compose_holds_no_secret_and_only_known_settings(compose: dict[str, Any]) -> None:
    """Secrets come from deploy/.env; its example has all that is asked for, and WattOS accepts what comes of it."""
    given = read_env("compose.env")
    required = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert required == set(given)
    for name in OURS:
        service = compose["services"][name]
        assert service["env_file"] == [".env"]
        assert set(service["environment"]) <= KNOWN
        filled_in = {
            variable: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: given[found[1]], value)
            for variable, value in service["environment"].items()
        }
        assert "${" not in "".join(filled_in.values())
        assert read_environment({**given, **filled_in, "DATA_DIR": "/data"}).warnings == ()


@pytest.mark.parametrize("name", ["minimal.env", "full.env"])
def test_env_files_are_accepted_in_production(name: str) -> None:
    """With the placeholders filled in, WattOS would start with them: no unknown name, no value out of range."""
    env = read_env(name)
    assert env["APP_ENV"] == "production"
    checked = read_environment(env)
    assert checked.warnings == ()
    for plugin in checked.discovered.enabled:
        plugin.from_env(env)


@pytest.mark.parametrize("name", ["minimal.env", "full.env"])
def test_env_files_are_refused_as_they_are(name: str) -> None:
    """Somebody who forgets to fill in the placeholders is told which, and not let in with an example's secret."""
    with pytest.raises(SettingsError) as refused:
        read_environment(read_env(name, filled_in=False))
    assert "ADMIN_KEY" in refused.value.message
    assert "DATABASE_URL" in refused.value.message


def test_the_minimal_env_file_has_nothing_that_could_be_left_out() -> None:
    """Each of its lines is needed: without it production refuses, or it is production that is switched on."""
    env = read_env("minimal.env")
    for variable in env.keys() - {"APP_ENV"}:
        with pytest.raises(SettingsError, match=variable):
            read_environment({name: value for name, value in env.items() if name != variable})


def test_the_full_env_file_names_every_setting() -> None:
    """A reader finds each setting with its default, or the reason why it has none."""
    text = (DEPLOY / "env" / "full.env").read_text()
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, flags=re.M))
    assert named == KNOWN


@pytest.mark.requirement("DEL-1")
def test_the_dockerfile_keeps_to_its_rules() -> None:
    """Two stages on a pinned base, hashed requirements, a numeric user, a health check; copied is what is allowed."""
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\S+:\d+\.\d+\.\d+-slim-\w+$", text, flags=re.M)
    assert re.findall(r"^FROM (\S+)", text, flags=re.M) == ["${BASE}", "${BASE}"]
    assert re.search(rf"^ARG VERSION={re.escape(VERSION)}$", text, flags=re.M)
    assert text.count("--require-hashes") == 2
    assert re.search(r"^USER 10001:10001$", text, flags=re.M)
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, flags=re.M)[0]) == ["wattos"]
    assert "\nHEALTHCHECK " in text
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignored[0] == "*"
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {source for line in re.findall(r"^COPY (?!--from)(.*)$", text, flags=re.M) for source in line.split()[:-1]}
    assert copied == allowed
