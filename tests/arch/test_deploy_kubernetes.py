"""The manifests are valid Kubernetes, ask for no privilege, and say nothing that WattOS does not understand."""

from __future__ import annotations

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
from app.llm.config import read_models_config
from app.settings import Settings, read_settings
from arch.deployment import DEPLOY, KNOWN, VERSION, memory_bytes, read_env
from server import ROOT

KUBERNETES = DEPLOY / "kubernetes"
KUBECTL = shutil.which("kubectl") or shutil.which("kubectl", path=str(ROOT / ".tools"))
Manifests = list[dict[str, Any]]


def kubectl(*arguments: str) -> str:
    assert KUBECTL is not None
    run = subprocess.run([KUBECTL, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.fixture(scope="module", params=["base", "overlays/small", "overlays/vendors"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """Everything that `kubectl apply -k` would send, for the base and each overlay."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed: make tools")
    version = json.loads(kubectl("version", "--client", "-o", "json"))["clientVersion"]
    if request.param != "base" and int(re.sub(r"\D", "", version["minor"])) < 21:
        pytest.skip(f"kubectl {version['gitVersion']} is too old for overlays")
    return list(yaml.safe_load_all(kubectl("kustomize", str(KUBERNETES / request.param))))


def pods(manifests: Manifests) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {})}


def config_of(manifests: Manifests) -> dict[str, str]:
    (data,) = [m["data"] for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "wattos"]
    return dict(data)


@pytest.mark.requirement("DEL-2")
def test_manifests_are_valid_kubernetes(manifests: Manifests, tmp_path: Path) -> None:
    """Against Kubernetes' own schemas, strictly: no unknown field. One namespace, and no object twice."""
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    validate = Path(sys.executable).with_name("kubernetes-validate")
    run = subprocess.run([validate, "--strict", file], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (run.stdout + run.stderr).count(" passed ") == len(manifests)
    assert {m["metadata"].get("namespace") for m in manifests if m["kind"] != "Namespace"} == {"wattos"}
    assert len({(m["kind"], m["metadata"]["name"]) for m in manifests}) == len(manifests)


@pytest.mark.requirement("DEL-2")
def test_pods_run_with_least_privilege(manifests: Manifests) -> None:
    """No root, read-only root file system, no capability, no token, no service links; images are pinned."""
    assert set(pods(manifests)) == {"wattos-server", "wattos-worker", "wattos-migrate"}
    for pod in pods(manifests).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == f"wattos:{VERSION}"
        assert {"/data", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert memory_bytes(container["resources"]["limits"]["memory"]) >= 512 << 20


@pytest.mark.requirement("OBS-5")
@pytest.mark.requirement("DEL-2")
def test_probes_ask_the_management_port_and_stopping_has_time(manifests: Manifests) -> None:
    """Startup, liveness and readiness; the pod outlives delay and grace, and is asked no more before the delay ends."""
    config = config_of(manifests)
    settings = read_settings({k: v for k, v in config.items() if k != "APP_ENV"})
    for name in ("wattos-server", "wattos-worker"):
        (container,) = pods(manifests)[name]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["management"] == settings.management_port
        assert container["args"][-2:] == ["--host", "0.0.0.0"]
        asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: of["path"].rpartition("/")[2] for kind, of in asked.items()} == {
            "startup": "readiness",
            "liveness": "liveness",
            "readiness": "readiness",
        }
        assert {of["port"] for of in asked.values()} == {"management"}
        readiness = container["readinessProbe"]
        assert readiness["periodSeconds"] * readiness["failureThreshold"] < settings.drain_s
    grace_s = pods(manifests)["wattos-server"]["terminationGracePeriodSeconds"]
    assert grace_s >= settings.drain_s + settings.shutdown_grace_s + 10


@pytest.mark.requirement("DEL-2")
def test_a_roll_out_never_leaves_fewer_servers_and_a_drain_never_waits_for_ever(manifests: Manifests) -> None:
    """A new server comes before an old one goes; a node with the only server on it can still be emptied."""
    by_name = {(m["kind"], m["metadata"]["name"]): m["spec"] for m in manifests if "spec" in m}
    assert by_name["Deployment", "wattos-server"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = by_name["PodDisruptionBudget", "wattos-server"]
    assert (budget.get("minAvailable"), budget["maxUnavailable"]) == (None, 1)


def test_selectors_find_their_pods(manifests: Manifests) -> None:
    """Service, budget, spread and network policy mean the pods that are there; a Deployment means its own alone."""
    labels = {
        m["metadata"]["name"]: m["spec"]["template"]["metadata"]["labels"].items()
        for m in manifests
        if "template" in m.get("spec", {})
    }

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, of_pod in labels.items() if selector.items() <= of_pod}

    for manifest in manifests:
        spec, name = manifest.get("spec", {}), manifest["metadata"]["name"]
        match manifest["kind"]:
            case "Deployment":
                assert found(spec["selector"]["matchLabels"]) == {name}
                for constraint in spec["template"]["spec"].get("topologySpreadConstraints", ()):
                    assert found(constraint["labelSelector"]["matchLabels"]) == {name}
            case "Service":
                assert found(spec["selector"]) == {"wattos-server"}
            case "PodDisruptionBudget":
                assert found(spec["selector"]["matchLabels"]) == {"wattos-server"}
            case "NetworkPolicy":
                assert found(spec["podSelector"]["matchLabels"]) == set(labels)


def test_manifests_hold_no_secret_and_only_known_settings(manifests: Manifests) -> None:
    """Secrets come from a Secret that is not in the tree; every variable is read, and together they are accepted."""
    assert [m for m in manifests if m["kind"] == "Secret"] == []
    config = config_of(manifests)
    for name, pod in pods(manifests).items():
        (container,) = pod["containers"]
        env = {**config, **{variable["name"]: variable["value"] for variable in container.get("env", ())}}
        assert env.keys() <= KNOWN - {"ADMIN_KEY", "DATABASE_URL"}
        assert container["envFrom"] == [{"configMapRef": {"name": "wattos"}}, {"secretRef": {"name": "wattos"}}]
        checked = read_environment({**read_env("minimal.env"), **env, "DATA_DIR": "/data"})
        assert checked.warnings == ()
        assert checked.settings.worker_enabled == (name != "wattos-server")


def test_the_vendors_file_is_read_and_mounted_where_it_is_looked_for() -> None:
    """Its aliases are known, nothing in it is left out, and MODELS_CONFIG is where the volume puts it."""
    file = KUBERNETES / "overlays/vendors/models.yaml"
    wanted = re.findall(r"os\.environ/(\w+)", file.read_text())
    config = read_models_config(file, dict.fromkeys(wanted, "a-key"))
    assert config.warnings == ()
    assert [entry.model_name for entry in config.model_list] == ["chat", "chat"]
    patch = yaml.safe_load((file.parent / "server.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]
    (variable,) = patch["env"]
    (mount,) = patch["volumeMounts"]
    assert (variable["name"], variable["value"]) == ("MODELS_CONFIG", f"{mount['mountPath']}/{file.name}")


def test_memory_limits_have_room_for_what_is_read(manifests: Manifests) -> None:
    """Two documents at a time: the kernel never ends a worker for a document that WattOS itself lets in."""
    (worker,) = pods(manifests)["wattos-worker"]["containers"]
    largest_document_bytes = 1_300_000_000  # Settings.parse_memory_bytes says so
    assert Settings().parse_memory_bytes > largest_document_bytes
    assert memory_bytes(worker["resources"]["limits"]["memory"]) > 2 * largest_document_bytes
