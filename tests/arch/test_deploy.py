"""What is in `deploy/` is valid, and says nothing that WattOS does not understand."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.environment import read_environment
from app.settings import GROUP, read_settings
from plugins.contract.discovery import BUILT_IN, toggle_of
from plugins.contract.settings import settings_of
from server import ROOT

DEPLOY = ROOT / "deploy"
KNOWN = {toggle_of(name) for name in BUILT_IN} | {
    setting.variable
    for setting in settings_of(
        [GROUP, *(g for name in BUILT_IN for g in importlib.import_module(f"plugins.{name}.config").SETTINGS)]
    )
}
FILLED_IN = {"<admin-key>": "q7Vn2mXc9Lr4Ts8Bd1Wz6Kp3Hf5Jg0Ya", "<database-password>": "d8s-Kq2-vP1"}


def read_env(name: str) -> dict[str, str]:
    """A file of `deploy/env`, with its placeholders filled in."""
    text = (DEPLOY / "env" / name).read_text()
    for placeholder, value in FILLED_IN.items():
        text = text.replace(placeholder, value)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    """Everything that `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    run = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes/overlays/small")], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return list(yaml.safe_load_all(run.stdout))


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {})}


@pytest.mark.requirement("DEL-2")
def test_manifests_are_valid_kubernetes(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    """Against Kubernetes' own schemas, strictly: no unknown field."""
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    validate = Path(sys.executable).with_name("kubernetes-validate")
    run = subprocess.run([validate, "--strict", file], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count(" passed ") + run.stderr.count(" passed ") == len(manifests)


@pytest.mark.requirement("DEL-2")
def test_pods_run_with_least_privilege(manifests: list[dict[str, Any]]) -> None:
    """No root, read-only root file system, no capability, no token, no service links; images are pinned."""
    assert set(pods(manifests)) == {"wattos-server", "wattos-worker", "wattos-migrate"}
    for pod in pods(manifests).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert re.fullmatch(r"wattos:\d+\.\d+\.\d+", container["image"])
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.requirement("OBS-5")
@pytest.mark.requirement("DEL-2")
def test_probes_ask_the_management_port_and_stopping_has_time(manifests: list[dict[str, Any]]) -> None:
    """Startup, liveness and readiness; and the pod outlives delay and grace."""
    (config,) = [m["data"] for m in manifests if m["kind"] == "ConfigMap"]
    settings = read_settings({k: v for k, v in config.items() if k != "APP_ENV"})
    for name in ("wattos-server", "wattos-worker"):
        (container,) = pods(manifests)[name]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["management"] == settings.management_port
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {of["path"] for of in paths.values()} == {"/health/liveness", "/health/readiness"}
        assert paths["liveness"]["path"] == "/health/liveness"
        assert {of["port"] for of in paths.values()} == {"management"}
    grace_s = pods(manifests)["wattos-server"]["terminationGracePeriodSeconds"]
    assert grace_s >= settings.drain_s + settings.shutdown_grace_s + 10


def test_manifests_hold_no_secret_and_only_known_settings(manifests: list[dict[str, Any]]) -> None:
    """Secrets come from a Secret that is not in the tree; every variable is one that WattOS reads."""
    assert [m for m in manifests if m["kind"] == "Secret"] == []
    named = {name for m in manifests if m["kind"] == "ConfigMap" for name in m["data"]}
    for pod in pods(manifests).values():
        named |= {variable["name"] for variable in pod["containers"][0].get("env", ())}
    assert named <= KNOWN
    assert not named & {"ADMIN_KEY", "DATABASE_URL"}


@pytest.mark.requirement("DEL-2")
def test_compose_is_sound() -> None:
    """Pinned images, known settings, no secret, no privilege; servers start after the migration."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = document["services"]
    assert set(services) == {"postgres", "migrate", "server", "worker"}
    assert all(":" in service["image"] and "latest" not in service["image"] for service in services.values())
    for name in ("migrate", "server", "worker"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert set(service["environment"]) <= KNOWN
        assert service["environment"]["ADMIN_KEY"].startswith("${ADMIN_KEY:?")
    assert services["server"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["server"]["ports"] == ["127.0.0.1:8080:8080"]
    assert document.keys() >= {"services", "volumes"}


@pytest.mark.parametrize("name", ["minimal.env", "full.env"])
def test_env_files_are_accepted_in_production(name: str) -> None:
    """With the placeholders filled in, WattOS would start with them: no unknown name, no value out of range."""
    env = read_env(name)
    assert env["APP_ENV"] == "production"
    checked = read_environment(env)
    assert checked.warnings == ()
    for plugin in checked.discovered.enabled:
        plugin.from_env(env)


def test_the_full_env_file_names_every_setting() -> None:
    """A reader finds each setting with its default, or the reason why it has none."""
    text = (DEPLOY / "env" / "full.env").read_text()
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, flags=re.M))
    assert named == KNOWN


@pytest.mark.requirement("DEL-1")
def test_the_dockerfile_keeps_to_its_rules() -> None:
    """Two stages, hashed requirements, a numeric user, a health check, an allow-list of what is copied."""
    text = (ROOT / "Dockerfile").read_text()
    assert len(re.findall(r"^FROM ", text, flags=re.M)) == 2
    assert text.count("--require-hashes") == 2
    assert re.search(r"^USER 10001:10001$", text, flags=re.M)
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, flags=re.M)[0]) == ["wattos"]
    assert "HEALTHCHECK" in text
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignored[0] == "*"
    assert not any(word in line for line in ignored for word in (".env", ".data", ".git"))
