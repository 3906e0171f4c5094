"""MODELS_CONFIG: the format of LiteLLM's proxy, as far as this release reads it. Errors name file, place and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

from plugins.contract.errors import SettingsError

ENVIRONMENT = "os.environ/"

KNOWN_TOP = {"model_list", "litellm_settings"}
KNOWN_ENTRY = {"model_name", "litellm_params", "model_info"}
KNOWN_SETTINGS = {"fallbacks"}

ROUTER_PARAMS = {"rpm", "tpm", "weight", "order", "max_parallel_requests", "tags", "max_budget", "budget_duration"}
"""Of `litellm_params`: for LiteLLM's router, which we do not use. All others are handed to litellm."""

PLANNED = {
    "router_settings",
    "litellm_settings.default_fallbacks",
    "litellm_settings.context_window_fallbacks",
    "litellm_settings.num_retries",
    "litellm_settings.request_timeout",
}
"""Not read yet, but will be."""


class ModelInfo(msgspec.Struct, kw_only=True):
    id: str | None = None
    mode: str | None = None
    base_model: str | None = None
    """Whose price it is, where `model` is a name of the operator's own, as at Azure."""
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None


class ModelEntry(msgspec.Struct, kw_only=True):
    """One deployment: an alias and how to call what stands behind it."""

    model_name: str
    litellm_params: dict[str, Any]
    model_info: ModelInfo = msgspec.field(default_factory=ModelInfo)


class RouterSettings(msgspec.Struct, kw_only=True):
    fallbacks: list[dict[str, list[str]]] = []


class ModelsConfig(msgspec.Struct, kw_only=True):
    """The file, with `os.environ/NAME` already replaced. `warnings` names what was left out."""

    model_list: list[ModelEntry] = []
    litellm_settings: RouterSettings = msgspec.field(default_factory=RouterSettings)
    warnings: tuple[str, ...] = ()


def read_models_config(path: Path, env: Mapping[str, str]) -> ModelsConfig:
    """Raises: SettingsError in one line: file, place, what is wrong, how to mend it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"MODELS_CONFIG={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"MODELS_CONFIG={path}: cannot be read ({type(exc).__name__})") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply") from None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{place}: not valid YAML: {getattr(exc, 'problem', 'unreadable')}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: the file must hold a mapping with `model_list`")
    try:
        resolved = _resolve(document, env, str(path), "")
    except RecursionError:
        raise SettingsError(f"{path}: an alias (`*name`) holds itself") from None
    try:
        config = msgspec.convert(resolved, ModelsConfig, strict=False)
    except msgspec.ValidationError as exc:
        raise SettingsError(f"{path}: {exc}") from None
    config.warnings = tuple(_unread(resolved))
    return config


def _resolve(value: Any, env: Mapping[str, str], file: str, place: str) -> Any:
    """Replace each `os.environ/NAME`. Raises: SettingsError for a variable that is not set."""
    if isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        # `model_list:` with nothing behind it (all lines commented out, say) is as good as no line at all.
        items = ((str(k), v) for k, v in mapping.items() if v is not None)
        return {k: _resolve(v, env, file, f"{place}.{k}" if place else k) for k, v in items}
    if isinstance(value, list):
        entries = cast("list[object]", value)
        return [_resolve(v, env, file, f"{place}[{n}]") for n, v in enumerate(entries)]
    if isinstance(value, str) and value.startswith(ENVIRONMENT):
        name = value.removeprefix(ENVIRONMENT)
        if name not in env:
            raise SettingsError(f"{file}, {place}: the variable {name} is not set in the environment")
        return env[name]
    return value


def _unread(document: Mapping[str, Any]) -> Iterator[str]:
    for place in _unread_places(document):
        later = "yet" if place in PLANNED else "by this release"
        yield f"`{place}` is not read {later}"


def _unread_places(document: Mapping[str, Any]) -> Iterator[str]:
    yield from sorted(document.keys() - KNOWN_TOP)
    for key in sorted(document.get("litellm_settings", {}).keys() - KNOWN_SETTINGS):
        yield f"litellm_settings.{key}"
    for number, entry in enumerate(document.get("model_list", [])):
        for key in sorted(entry.keys() - KNOWN_ENTRY):
            yield f"model_list[{number}].{key}"
        for key in sorted(entry["litellm_params"].keys() & ROUTER_PARAMS):
            yield f"model_list[{number}].litellm_params.{key}"
