"""What the tests of `deploy/` share: the settings that WattOS reads, and the env files as an operator fills them in."""

from __future__ import annotations

import importlib
import tomllib
from typing import Any

from app.settings import GROUP
from plugins.contract.discovery import BUILT_IN, toggle_of
from plugins.contract.settings import settings_of
from server import ROOT

DEPLOY = ROOT / "deploy"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
KNOWN = {toggle_of(name) for name in BUILT_IN} | {
    setting.variable
    for setting in settings_of(
        [GROUP, *(g for name in BUILT_IN for g in importlib.import_module(f"plugins.{name}.config").SETTINGS)]
    )
}
FILLED_IN = {
    "<admin-key>": "q7Vn2mXc9Lr4Ts8Bd1Wz6Kp3Hf5Jg0Ya",
    "<database-password>": "d8s-Kq2-vP1",
    "<valkey-password>": "v3Y-t7w-Lk0",
}


def read_env(name: str, *, filled_in: bool = True) -> dict[str, str]:
    """A file of `deploy/env`."""
    text = (DEPLOY / "env" / name).read_text()
    for placeholder, value in FILLED_IN.items() if filled_in else ():
        text = text.replace(placeholder, value)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def memory_bytes(quantity: str) -> int:
    """Of Kubernetes (`3Gi`) or Compose (`3g`)."""
    number = quantity.rstrip("MiGgm")
    units: dict[str, Any] = {"m": 1 << 20, "g": 1 << 30}
    return int(number) * int(units[quantity.removesuffix("i")[-1].lower()])
